package hosting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"

	"durablestream/broker"
	"durablestream/event"
)

// Status asks the host about itself.
func (p *Process) Status(ctx context.Context) (broker.HostStatus, error) {
	if h := p.now(); h != nil {
		return h.status(), nil
	}
	// In a cluster all nodes answer: use the answer of the node that this process is
	// connected to.
	var s broker.HostStatus
	name := p.Conn.ConnectedServerName()
	answers := p.Client.Admin().Statuses(ctx, func(b []byte) bool {
		return json.Unmarshal(b, &s) == nil && (s.Cluster == "" || s.Name == name)
	})
	if len(answers) == 0 {
		return s, errors.New("durablestream: the host does not tell its status: it gives no answer")
	}
	if err := json.Unmarshal(answers[len(answers)-1], &s); err != nil {
		return s, fmt.Errorf("durablestream: the host does not tell its status: %w", err)
	}
	return s, nil
}

func (h *host) answerStatus(m *nats.Msg) {
	b, err := json.Marshal(h.status())
	if err == nil {
		_ = m.Respond(b) // the caller is gone, or asks again
	}
}

func (h *host) status() broker.HostStatus {
	s := broker.HostStatus{
		Name:       h.cfg.Node.Name,
		PID:        os.Getpid(),
		Since:      event.Milli(h.since.UnixMilli()),
		Version:    h.cfg.Version,
		Endpoint:   h.broker.ClientURL(),
		Stuck:      h.broker.Stuck(),
		Torn:       h.broker.Torn(),
		CopyError:  h.broker.Copy().Why,
		CopyOut:    h.broker.Copy().Out,
		SyncAlways: true,
		Indexed:    h.broker.Indexed(),
		MirrorOff:  h.cfg.NoMirror,
		SweeperOff: h.cfg.NoSweeper,
	}
	h.broker.Disk().Tell(&s)
	if c := h.cfg.Node.Cluster; c != nil {
		s.Cluster = c.Name
	}
	if err := broker.CheckEngine(); err != nil {
		s.Unchecked = err.Error()
	}
	checked := h.broker.Checked()
	s.Damaged = checked.Damage
	if !checked.Since.IsZero() {
		s.Checked = event.Milli(checked.Since.UnixMilli())
	}
	if p := h.mirror.progress.Load(); p != nil {
		s.MirrorSeq, s.MirrorLines, s.SetAside = p.Seq, p.Lines, p.SetAside
		if p.Err != nil {
			s.MirrorError = p.Err.Error()
		}
	}
	if err := h.mirror.why(); err != nil {
		s.MirrorError = err.Error()
	}
	if err := h.sweeper.why(); err != nil {
		s.SweeperError = err.Error()
	}
	return s
}
