package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/dial"
	"durablestream/internal/wire"
)

// ServerReport describes servers that are not a project's host.
type ServerReport struct {
	Version string // of the server at the end of this connection
	// Missing are the features that a Log needs and the server certainly lacks; Unseen
	// those that the server does not report. Each is a sentence.
	Missing []string
	Unseen  []string
	// Limits are the servers' limits for readers and appends, each a sentence.
	Limits []string
}

// WeakServerError names a feature that a Log needs and a server does not promise.
type WeakServerError struct {
	Server  string
	Missing []string
}

func (e *WeakServerError) Error() string {
	return fmt.Sprintf("the server %s promises less than the log needs: %s; mend that, or accept it (--accept-weaker-durability, Config.AcceptWeakerDurability)",
		e.Server, strings.Join(e.Missing, "; "))
}

// ErrNoJetStream means that the server has no JetStream for this connection.
var ErrNoJetStream = errors.New("the server has no JetStream for this account: switch it on (jetstream in its configuration)")

const (
	serverMajor, serverMinor = 2, 14 // the first version with all features that a Log uses
)

// CheckServer checks the promises of the servers behind js: their version, JetStream
// (ErrNoJetStream if it does not answer within ctx), and whether they sync to disk before
// they acknowledge. Brokers of ours report that. For other servers, CheckServer reads it
// from their monitoring at the given URLs (http://host:8222); without these it cannot
// know.
func CheckServer(ctx context.Context, js jetstream.JetStream, monitors []string) (ServerReport, error) {
	nc := js.Conn()
	r := ServerReport{Version: nc.ConnectedServerVersion()}
	if !newEnough(r.Version) {
		r.Missing = append(r.Missing, fmt.Sprintf("its version is %s, and %d.%d or later is needed", r.Version, serverMajor, serverMinor))
	}
	// A cluster that elects a leader does not answer at all, and has JetStream.
	attempt, cancel := context.WithTimeout(ctx, time.Second)
	s, err := js.Stream(attempt, wire.LogName)
	if err == nil {
		r.Limits = readersOf(attempt, js, s)
	}
	cancel()
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return r, ErrNoJetStream
	}
	if len(monitors) > 0 {
		for _, url := range monitors {
			syncs, words, readers, err := dial.Monitored(ctx, url)
			if err != nil {
				return r, err
			}
			if readers != "" {
				r.Limits = append(r.Limits, readers)
			}
			if !syncs {
				r.Missing = append(r.Missing, words)
			}
		}
		return r, nil
	}
	var host struct {
		SyncAlways bool `json:"sync_always"`
	}
	answers := dial.Statuses(ctx, nc, func([]byte) bool { return true })
	switch {
	case len(answers) == 0:
		r.Unseen = append(r.Unseen, "whether it syncs to disk before it acknowledges (sync_interval: always) cannot be seen: --server-monitor names its monitoring URL")
	case json.Unmarshal(answers[0], &host) != nil || !host.SyncAlways:
		r.Missing = append(r.Missing, "its host does not say that it syncs to disk before it acknowledges")
	}
	return r, nil
}

// LogNodes names the servers that have a copy of the Log, even while it has no leader.
// Its errors are those of JetStream, and the context's if no server answers.
func LogNodes(ctx context.Context, nc *nats.Conn) (names []string, err error) {
	js, err := JetStream(ctx, nc)
	if err != nil {
		return nil, err
	}
	s, err := js.Stream(ctx, wire.LogName)
	if err != nil {
		return nil, err
	}
	if c := s.CachedInfo().Cluster; c != nil {
		for _, r := range replicas(c) {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

func newEnough(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > serverMajor || major == serverMajor && minor >= serverMinor)
}

// readersOf reports how many readers the stream and the account admit, if they have a
// limit.
func readersOf(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) (words []string) {
	if n := s.CachedInfo().Config.MaxConsumers; n > 0 {
		words = append(words, dial.ReadersWords("the stream "+wire.LogName, n, "max_consumers of the stream"))
	}
	if !MayCreate(js) { // nor may ask about the account
		return words
	}
	if a, err := js.AccountInfo(ctx); err == nil && a.Limits.MaxConsumers > 0 {
		words = append(words, dial.ReadersWords("the account", a.Limits.MaxConsumers, "max_consumers of the account"))
	}
	return words
}

// Statuses asks all hosts of ours for their status, as JSON. It returns one on a single
// host, one for each node of a cluster that answers within a quarter of a second of the
// first, and none if there is no host. It returns early with the first status for which
// enough, if given, is true.
func (adm Admin) Statuses(ctx context.Context, enough func(answer []byte) bool) [][]byte {
	c := adm.c
	if enough == nil {
		enough = func([]byte) bool { return false }
	}
	return dial.Statuses(ctx, c.nc, enough)
}
