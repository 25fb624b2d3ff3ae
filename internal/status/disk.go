package status

import (
	"fmt"

	"durablestream/broker"
	"durablestream/internal/console"
)

func diskBrief(h broker.HostStatus) string {
	switch {
	case h.DiskFloor < 0:
		return "not watched"
	case h.DiskReadOnly:
		return "READ-ONLY"
	case h.DiskFull:
		return "FULL"
	}
	return console.Size(h.DiskFree) + " free"
}

func diskWords(h broker.HostStatus) string {
	switch {
	case h.DiskFloor < 0:
		return "not watched"
	case h.DiskReadOnly:
		return "READ-ONLY: appends are refused"
	case h.DiskFull && h.DiskLacks != broker.LackNothing && h.DiskLacks != broker.LackSpace:
		return fmt.Sprintf("FULL: %s free, and appends are refused: see the alarm", console.Size(h.DiskFree))
	case h.DiskFull:
		return fmt.Sprintf("FULL: %s free, appends are refused under %s", console.Size(h.DiskFree), console.Size(h.DiskFloor))
	}
	return fmt.Sprintf("%s free (appends are refused under %s)", console.Size(h.DiskFree), console.Size(h.DiskFloor))
}

// FullWords are about a disk that lacks what a block file takes.
func FullWords(h broker.HostStatus) string {
	switch h.DiskLacks {
	case broker.LackInodes:
		return fmt.Sprintf("the file system of the log has %d free inodes, under the floor of %d: appends are refused until files are removed, however small they are (df -i)",
			h.DiskInodes, h.DiskInodesFloor)
	case broker.LackQuota:
		return "the disk quota of the host's user is used up: appends are refused until files of that user are removed, or the quota is raised"
	case broker.LackFileSize:
		return "the host may not write files of 8 MiB, the size of a block: appends are refused; raise the limit (ulimit -f, LimitFSIZE= of systemd) and start the host again"
	}
	if h.DiskFree >= h.DiskFloor {
		return fmt.Sprintf("the disk has %s free, and no room for the engine's next block file: appends are refused until there is space", console.Size(h.DiskFree))
	}
	return fmt.Sprintf("the disk has %s free, under the floor of %s: appends are refused until there is space", console.Size(h.DiskFree), console.Size(h.DiskFloor))
}

// ReadOnlyWords are about a disk that cannot be written.
const ReadOnlyWords = "the disk of the log is read-only, or its directory cannot be written: appends are refused, and reads go on; " +
	"a disk turns read-only by itself when it fails, and the kernel's log says so (dmesg); once it can be written, the host goes on by itself"

// TemporaryWords are about a log that cannot be written, and is read all the same.
func TemporaryWords(why *broker.UnwritableError) string {
	return why.Brief() + "; this command reads a temporary copy"
}
