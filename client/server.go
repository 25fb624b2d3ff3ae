package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	monitorTimeout           = 5 * time.Second
	statusTimeout            = time.Second // for a broker of ours to say what it is
	statusMore               = 250 * time.Millisecond
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
			syncs, words, readers, err := monitored(ctx, url)
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
	answers := statuses(ctx, nc, func([]byte) bool { return true })
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
		words = append(words, readersWords("the stream "+wire.LogName, n, "max_consumers of the stream"))
	}
	if !MayCreate(js) { // nor may ask about the account
		return words
	}
	if a, err := js.AccountInfo(ctx); err == nil && a.Limits.MaxConsumers > 0 {
		words = append(words, readersWords("the account", a.Limits.MaxConsumers, "max_consumers of the account"))
	}
	return words
}

func readersWords(who string, n int, what string) string {
	return fmt.Sprintf("%s admits %d readers (consumers) at a time, and one more waits until another ends: raise %s", who, n, what)
}

// monitored reads from a server's monitoring whether it syncs before it acknowledges, and
// how many readers it admits. It reports a server that does not sync, and a limit.
func monitored(ctx context.Context, url string) (syncs bool, words, readers string, err error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	fail := func(err error) (bool, string, string, error) {
		return false, "", "", fmt.Errorf("client: cannot read the monitoring of the server at %s: %w", url, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/varz", http.NoBody)
	if err != nil {
		return fail(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	var v struct {
		Name      string `json:"server_name"`
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
			} `json:"config"`
			Limits struct {
				Consumers int `json:"default_max_consumers"`
			} `json:"limits"`
		} `json:"jetstream"`
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("it answers %s", resp.Status))
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return fail(err)
	}
	if v.JetStream.Config == nil {
		return false, fmt.Sprintf("%s has no JetStream (%s)", v.Name, url), "", nil
	}
	if n := v.JetStream.Limits.Consumers; n > 0 {
		readers = readersWords(v.Name, n, "default_max_consumers in the limits of its jetstream configuration")
	}
	if !v.JetStream.Config.SyncAlways {
		return false, fmt.Sprintf("%s acknowledges before it syncs to disk, which it does every %s: set sync_interval: always in its jetstream configuration",
			v.Name, v.JetStream.Config.SyncInterval), readers, nil
	}
	return true, "", readers, nil
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
	return statuses(ctx, c.nc, enough)
}

func statuses(ctx context.Context, nc *nats.Conn, enough func([]byte) bool) [][]byte {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails on a closed connection, where there is nothing to end
	if err := nc.PublishRequest(wire.StatusSubject, inbox, nil); err != nil {
		return nil
	}
	var out [][]byte
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil || len(m.Data) == 0 { // no more of them, or nobody is there
			return out
		}
		out = append(out, m.Data)
		if enough(m.Data) {
			return out
		}
		if len(out) == 1 {
			brief, cancel := context.WithTimeout(ctx, statusMore)
			defer cancel()
			ctx = brief
		}
	}
}
