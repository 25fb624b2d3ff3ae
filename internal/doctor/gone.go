package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"durablestream"
	"durablestream/broker"
	"durablestream/internal/console"
	"durablestream/mirror"
)

// inDoctor is the text of an error without the advice to call the doctor.
func inDoctor(err error) string {
	text := err.Error()
	var advised interface{ Advice() string }
	if errors.As(err, &advised) {
		text = strings.Replace(text, advised.Advice(), "", 1)
	}
	return text
}

// goneFinding is about a log of which only the mirror is left.
func (d *Examination) goneFinding(s seen) Finding {
	f := Finding{Name: FoundStore, Sure: true, What: fmt.Sprintf(
		"the log is gone: %s holds none, and its mirror has events up to position %d", filepath.Join(d.host, broker.StoreDir), s.mirror.Last)}
	var torn *mirror.TornError
	switch {
	case s.mirror.Problem != nil && !errors.As(s.mirror.Problem, &torn):
		f.What += fmt.Sprintf("; and the log is not made again from the mirror as it is: %s", inDoctor(s.mirror.Problem))
		f.Limits = "put the store, or the mirror's files, back from a copy"
	case d.held:
		f.Limits = "a process holds the lock: end it, and run this again"
	case d.managed != nil:
		f.Limits = fmt.Sprintf("put the store back; or 'dstream --dir NEW restore --from %s' makes the log in another directory, and 'dstream serve --keys' hosts it there", d.cfg.Dir)
	default:
		f.Repair = "makes the log again from the mirror's files, with the same ids and sequences: what was decided stays decided"
		f.Keeps = "the mirror, as it is"
		f.Limits = "leases are void, and what was acknowledged after the mirror's last line is not in it: should the store only have been moved, put it back instead"
		f.fix = d.restoreLog
	}
	return f
}

// restoreLog makes the log again where nothing of it is left. An attempt that was
// interrupted is another finding: 'dstream restore' completes it.
func (d *Examination) restoreLog(ctx context.Context) (outcome string, err error) {
	s, err := d.read()
	if err == nil && s.blocks != "" {
		err = errors.New("there is a log by now: run doctor again")
	}
	if err != nil {
		return "", err
	}
	report, err := d.restoreFromMirror(ctx)
	if err != nil {
		if s, rerr := d.read(); rerr == nil && s.blocks != "" {
			outcome = "the log was begun, and 'dstream restore' completes it"
		}
		return outcome, err
	}
	outcome = fmt.Sprintf("the log was made again from the mirror: %s, position %d", console.Count(report.Lines, "event"), report.Last)
	if err := d.verify(ctx); err != nil {
		return outcome, fmt.Errorf("the log was not compared with the mirror: %w", err)
	}
	return outcome + "; the log and the mirror are equal", nil
}

// restoreFromMirror fills an empty log from the mirror's files.
func (d *Examination) restoreFromMirror(ctx context.Context) (report mirror.RestoreReport, err error) {
	from := mirror.RestoreConfig{From: []string{d.cfg.Dir}}
	if err := mirror.CheckSources(from); err != nil {
		return report, err
	}
	log, err := d.cfg.Open(func(cfg *durablestream.Config) {
		cfg.Servers, cfg.Command.NoCreate = nil, false
		cfg.Command.NoMirror, cfg.Command.NoSweeper, cfg.Command.Restoring = true, true, true
	})
	if err != nil {
		return report, err
	}
	defer closing(log, &err)
	from.Client, from.Conn = log.Client(), log.Admin().Conn()
	if log.Hosting() {
		from.Recreate = log.Admin().RecreateLog
	}
	bar := console.NewBar(d.cfg.Words, "restoring")
	defer bar.Finish()
	from.Progress = bar.Set
	return mirror.Restore(ctx, from)
}
