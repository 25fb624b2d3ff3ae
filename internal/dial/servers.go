package dial

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"durablestream/internal/wire"
)

const (
	monitorTimeout = 5 * time.Second
	statusTimeout  = time.Second // for a host of ours to say what it is
	statusMore     = 250 * time.Millisecond
)

// ReadersWords explains a limit of n readers to a user: whose limit it is, and the setting that
// raises it.
func ReadersWords(who string, n int, what string) string {
	return fmt.Sprintf("%s admits %d readers (consumers) at a time, and one more waits until another ends: raise %s", who, n, what)
}

// Monitored reads from a server's monitoring whether it syncs before it acknowledges, and
// how many readers it admits. It reports a server that does not sync, and a limit.
func Monitored(ctx context.Context, url string) (syncs bool, words, readers string, err error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	fail := func(err error) (bool, string, string, error) {
		return false, "", "", fmt.Errorf("cannot read the monitoring of the server at %s: %w", url, err)
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
		readers = ReadersWords(v.Name, n, "default_max_consumers in the limits of its jetstream configuration")
	}
	if !v.JetStream.Config.SyncAlways {
		return false, fmt.Sprintf("%s acknowledges before it syncs to disk, which it does every %s: set sync_interval: always in its jetstream configuration",
			v.Name, v.JetStream.Config.SyncInterval), readers, nil
	}
	return true, "", readers, nil
}

// Statuses asks all hosts of ours behind nc for their status, as JSON: one of a single host,
// one of each node of a cluster that answers within a quarter of a second of the first, none
// where there is no host. Statuses returns early with the first status for which enough is true.
func Statuses(ctx context.Context, nc *nats.Conn, enough func([]byte) bool) [][]byte {
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
