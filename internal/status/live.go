package status

import (
	"context"
	"fmt"
	"time"

	"durablestream"
	"durablestream/internal/console"
)

// Live is the log and its host in one line, with how many lines the mirror has.
func Live(ctx context.Context, d *durablestream.DurableStream) (string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 400*time.Millisecond)
	defer cancel()
	pos, err := d.Position(ctx)
	if err != nil {
		return "", 0, err
	}
	s, err := d.Admin().HostStatus(ctx)
	if err != nil {
		return "", 0, err
	}
	text := fmt.Sprintf("%s · position %d · mirror ", console.Count(s.MirrorLines, "event"), pos)
	switch {
	case s.MirrorOff:
		text += "off"
	case s.MirrorError != "":
		text += "STOPPED, see 'dstream status'"
	case s.MirrorSeq >= pos:
		text += "up to date"
	default:
		text += fmt.Sprintf("%d behind", pos-s.MirrorSeq)
	}
	switch {
	case s.Torn != "":
		text += " · A BATCH IS STORED IN PART, appends refused"
	case s.DiskReadOnly:
		text += " · DISK READ-ONLY, appends refused"
	case s.DiskFull:
		text += " · DISK FULL, appends refused"
	}
	return text, s.MirrorLines, nil
}
