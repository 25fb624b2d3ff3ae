package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/broker"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/wire"
	"durablestream/mirror"
	"durablestream/projection"
)

// statusAnswer is what `status --json` prints. docs/operations.md explains it
// field by field; scripts rely on the names.
type statusAnswer struct {
	Dir      string                    `json:"dir,omitempty"`
	Servers  []string                  `json:"servers,omitempty"`
	Running  bool                      `json:"running"`           // somebody hosted before this command
	Stopped  bool                      `json:"stopped,omitempty"` // by a signal: nothing else is known then
	Host     *durablestream.HostStatus `json:"host,omitempty"`
	Position event.Sequence            `json:"position"`
	First    event.Sequence            `json:"first"`
	Messages uint64                    `json:"messages"`
	Missing  uint64                    `json:"missing"`
	Bytes    uint64                    `json:"bytes"`
	Mirror   string                    `json:"mirror,omitempty"`
	Lag      uint64                    `json:"mirror_lag"` // Sequences that the mirror has not dealt with
	Alarms   []alarm                   `json:"alarms"`
	SetAside []projection.Aside        `json:"set_aside,omitempty"` // what no projection can read
}

func statusCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell who hosts the log, where it stands, and what is wrong with it",
		Long: `Tells who hosts the log, its position, its replicas, the mirror's lag, the disk,
and alarms. Exit status 1 when there is an alarm.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			a, err := askStatus(cmd, o)
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(cmd.OutOrStdout(), a)
			} else {
				err = a.print(cmd.OutOrStdout())
			}
			if err == nil && len(a.Alarms) > 0 {
				return &exitError{code: exitFailed}
			}
			return err
		},
	}
}

func askStatus(cmd *cobra.Command, o *options) (a statusAnswer, err error) {
	a = statusAnswer{Alarms: []alarm{}, Servers: o.servers}
	if len(o.servers) == 0 {
		if !logExists(o.dir) {
			return a, fmt.Errorf("there is no log in %s: 'dstream serve' starts one", o.dir)
		}
		if a.Dir, err = filepath.Abs(o.dir); err != nil {
			return a, err
		}
		if a.stopped() {
			return a, nil
		}
	}
	defer func() {
		if err != nil && len(o.servers) == 0 && a.stopped() {
			err = nil // it was stopped meanwhile
		}
	}()
	// A look must not start the mirror where nobody hosts.
	d, err := o.open(cmd, func(cfg *durablestream.Config) { cfg.NoMirror, cfg.NoSweeper = true, true })
	if err != nil {
		return a, err
	}
	defer closing(d, &err)
	ctx, cancel := context.WithTimeout(cmd.Context(), openWait)
	defer cancel()
	return a, a.ask(ctx, d)
}

// stopped looks for a host that was stopped by a signal: it answers nobody, and
// nobody can take over, so there is no use in asking.
func (a *statusAnswer) stopped() bool {
	host, err := address.Read(broker.AddressPath(filepath.Join(a.Dir, durablestream.HostDir)))
	if err != nil || !address.Stopped(host.PID) {
		return false
	}
	a.Running, a.Stopped = true, true
	a.Host = &durablestream.HostStatus{PID: host.PID, Since: host.Since, Version: host.Version, Endpoint: host.URL, DiskFree: -1}
	a.Alarms = append(a.Alarms, alarm{Name: alarmStopped, Message: fmt.Sprintf(
		"the host, process %d, is stopped and holds up everybody: let it go on with 'kill -CONT %d', or end it with 'kill -KILL %d' and another takes over",
		host.PID, host.PID, host.PID)})
	return true
}

// ask fills in what an open log tells.
func (a *statusAnswer) ask(ctx context.Context, d *durablestream.DurableStream) error {
	a.Running = !d.Hosting()
	state, err := d.State(ctx)
	if err != nil {
		return err
	}
	a.Position, a.First, a.Messages, a.Missing, a.Bytes = state.Last, state.First, state.Messages, state.Missing, state.Bytes
	if len(a.Servers) == 0 {
		a.Mirror = durablestream.MirrorPath(a.Dir)
	}
	if a.Running {
		hosts, err := askHosts(ctx, d.Conn(), 1)
		if err != nil {
			return err
		}
		a.hosts(hosts)
	} else {
		// This process has the lock, so the disk is its own to look at.
		h, err := d.HostStatus(ctx)
		if err != nil {
			return err
		}
		a.Alarms = append(a.Alarms, hostAlarms(h)...)
		if err := mirror.Check(ctx, mirror.Config{Client: d.Client, Dir: a.Dir}); err != nil {
			a.Alarms = append(a.Alarms, alarm{Name: alarmMismatch, Message: "no host can start: " + err.Error()})
		}
	}
	resume, err := d.Resume(ctx)
	if err != nil {
		return err
	}
	a.SetAside = resume.SetAside
	a.Alarms = append(a.Alarms, logAlarms(state)...)
	return nil
}

// hosts puts what the hosts told where it belongs.
func (a *statusAnswer) hosts(hosts []durablestream.HostStatus) {
	for _, h := range hosts {
		a.Alarms = append(a.Alarms, hostAlarms(h)...)
	}
	if len(hosts) > 0 {
		a.Host = &hosts[0]
		a.Lag = behind(a.Position, hosts[0])
	}
}

// behind is how many positions a host's mirror has not dealt with.
func behind(position event.Sequence, h durablestream.HostStatus) uint64 {
	return uint64(position - min(h.MirrorSeq, position))
}

// moreAnswers is how long further hosts have after the first answer.
const moreAnswers = 200 * time.Millisecond

// askHosts asks every host of the Log for its status: one, or each node of a
// cluster. It waits for want answers, or for moreAnswers after the first. A server
// that is not ours answers nothing, which is no error.
func askHosts(ctx context.Context, nc *nats.Conn, want int) ([]durablestream.HostStatus, error) {
	inbox := nc.NewRespInbox()
	answers := make(chan *nats.Msg, 64)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the host for its status: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails where the connection has ended
	if err := nc.PublishRequest(wire.StatusSubject, inbox, nil); err != nil {
		return nil, fmt.Errorf("cannot ask the host for its status: %w", err)
	}
	var hosts []durablestream.HostStatus
	patience := time.NewTimer(firstAnswer)
	defer patience.Stop()
	for len(hosts) < want {
		select {
		case <-ctx.Done():
			return hosts, ctx.Err()
		case <-patience.C:
			return hosts, nil
		case m := <-answers:
			if len(m.Data) == 0 && m.Header.Get("Status") != "" {
				return hosts, nil // nobody answers there
			}
			var h durablestream.HostStatus
			if err := json.Unmarshal(m.Data, &h); err != nil {
				return hosts, fmt.Errorf("the host's status is none: %w", err)
			}
			hosts = append(hosts, h)
			patience.Reset(moreAnswers)
		}
	}
	slices.SortFunc(hosts, func(a, b durablestream.HostStatus) int { return a.PID - b.PID })
	return hosts, nil
}

// firstAnswer is how long a host has for its answer; one that is there takes a
// millisecond.
const firstAnswer = 2 * time.Second

// logExists reports whether a directory has a store or a mirror.
func logExists(dir string) bool {
	for _, name := range []string{durablestream.HostDir + "/" + broker.StoreDir, durablestream.MirrorFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
