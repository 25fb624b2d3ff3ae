package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// machine describes where this was measured.
func machine(f figures) string {
	cpu := "unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	rows := [][2]string{
		{"measured", time.Now().UTC().Format(time.DateOnly) + ", at " + command("git", "describe", "--always", "--dirty")},
		{"CPU", fmt.Sprintf("%s, %d cores", cpu, runtime.NumCPU())},
		{"kernel", command("uname", "-sr")},
		{"file system", command("findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", os.TempDir())},
		{"write + fsync of 400 bytes", f.say("AppendOne file-p50-µs")},
		{"Go", runtime.Version()},
		{"engine", "nats-server " + server.VERSION + ", nats.go " + nats.Version},
		{"SQLite", command("go", "list", "-m", "modernc.org/sqlite")},
	}
	var b strings.Builder
	b.WriteString("| | |\n|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", r[0], r[1])
	}
	return b.String()
}

// command is what a command says, in one line.
func command(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(out)), " ")
}
