package roles_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/internal/longtest"
	"durablestream/internal/roles"
	"durablestream/internal/wait"
)

// Every role, everything that it must not do, by hand: nothing of it has an effect,
// at a host of ours and at a nats-server with the configuration that we print.
func TestWhatARoleMustNotDo(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *site{
		"embedded": func(t *testing.T) *site { return embedded(t) },
		"plain":    plain,
		"cluster":  clustered,
		"nodes":    nodes, // of ours, each with a gate
	} {
		if !slices.Contains(longtest.Pick([]string{"embedded", "nodes"}, []string{"embedded", "plain", "cluster", "nodes"}), name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []roles.Role{roles.Agent, roles.Operator} {
				t.Run(string(r), func(t *testing.T) {
					t.Parallel()
					s := open(t)
					a := s.attacker(t, string(r))
					others := listen(t, s, "admin")
					before := s.state(t)
					for _, try := range attempts(others.subject) {
						if try.by != nil && !slices.Contains(try.by, r) {
							continue
						}
						a.next()
						try.do(a)
						a.settle(t)
						require.Equal(t, before, s.state(t), try.name)
						if try.silent {
							require.False(t, a.answered(), "%s was answered", try.name)
						}
					}
					// What takes its time, such as heartbeats. Not with require.Never, which
					// may leave the last look running after the test has closed what it asks.
					for end := time.Now().Add(time.Second); time.Now().Before(end); {
						require.Equal(t, before, s.state(t), "a while later")
						require.NoError(t, wait.For(t.Context(), 20*time.Millisecond))
					}
					others.empty(t)
					require.Greater(t, a.refused.Load(), int64(100))
				})
			}
		})
	}
}

// The same table with all in one account and the same permissions on subjects: what
// the accounts are for. A table that found nothing here would be of no use.
func TestOneAccountIsNotEnough(t *testing.T) {
	t.Parallel()
	held := map[string]bool{}
	const status = "have the host's status sent elsewhere" // nobody answers it there, so it changes nothing
	for _, try := range attempts("_INBOX.other.x") {
		if !strings.HasPrefix(try.name, "have ") {
			continue
		}
		s := single(t)
		a := s.attacker(t, "agent")
		before := s.state(t)
		try.do(a)
		a.settle(t)
		patience := 20 * time.Second // ends with the change
		if try.name == status {
			patience = 500 * time.Millisecond
		}
		for end := time.Now().Add(patience); before == s.state(t); a.settle(t) {
			if time.Now().After(end) {
				held[try.name] = true
				break
			}
		}
		// nats-server 2.15.2 let an empty answer delete the Log.
		require.False(t, strings.HasPrefix(s.state(t), "no Log"), try.name)
		a.Close()
	}
	t.Log("held:", held)
	require.Equal(t, map[string]bool{status: true}, held)
}

// listener is a key at work, where nothing of another may arrive.
type listener struct {
	subject string
	sub     *nats.Subscription
}

func listen(t *testing.T, s *site, name string) *listener {
	t.Helper()
	nc := s.connect(t, name)
	l := &listener{subject: roles.InboxPrefix(s.keys[name].Public) + ".work"}
	var err error
	l.sub, err = nc.SubscribeSync(l.subject)
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return l
}

func (l *listener) empty(t *testing.T) {
	t.Helper()
	n, _, err := l.sub.Pending()
	require.NoError(t, err)
	require.Zero(t, n, "something came to %s", l.subject)
}

// The same table for those who may: an admin's attempts work, so the table does try
// what it says. Some cannot work on a single server, whoever asks.
func TestWhoMayDoesIt(t *testing.T) {
	longtest.Only(t, "a server for each attempt; TestOneAccountIsNotEnough is another run in which attempts of the same table succeed")
	t.Parallel()
	var idle []string
	for _, try := range attempts("_INBOX.other.x") {
		if strings.HasPrefix(try.name, "have ") || strings.HasPrefix(try.name, "a consumer that") {
			continue
		}
		s := embedded(t)
		if slices.ContainsFunc(roles.HostOnly(), func(r string) bool {
			return strings.TrimPrefix(r, "$JS.API.") == strings.TrimPrefix(try.name, "ask for ")
		}) {
			s = plain(t) // a server without a host, where it is an admin's
		}
		a := s.attacker(t, "admin")
		before := s.state(t)
		try.do(a)
		a.settle(t)
		works := func() bool { return a.answered() || before != s.state(t) }
		for end := time.Now().Add(300 * time.Millisecond); !works(); a.settle(t) {
			if time.Now().After(end) {
				idle = append(idle, try.name)
				break
			}
		}
		a.Close()
	}
	slices.Sort(idle)
	require.Equal(t, []string{
		"a forged origin",           // by the names of other accounts, which LOG does not know
		"ask for ACCOUNT.PURGE.LOG", // a cluster's, and the system account's
		"ask for META.LEADER.STEPDOWN",
		"ask for SERVER.REMOVE",
		"deletion marks in a message", // the Log's settings refuse them
		"listen elsewhere",            // not even an admin
	}, idle)
}

// What only a host does is granted to nobody else: neither to an admin, nor to who joins a
// host without keys, who may do all the rest.
func TestOnlyTheHostChangesTheStream(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"CREATE.EVENTS": `{"name":"EVENTS","subjects":["events.>","guards.>"],"storage":"file"}`,
		"UPDATE.EVENTS": `{"name":"EVENTS","subjects":["events.>","guards.>"],"storage":"file","max_age":100000000,"duplicate_window":100000000,"deny_delete":true,"deny_purge":true}`,
		"DELETE.EVENTS": "", "PURGE.EVENTS": "", "MSG.DELETE.EVENTS": `{"seq":1}`,
		"RESTORE.EVENTS": `{"config":{"name":"EVENTS","subjects":["events.>"]}}`,
	}
	require.Len(t, requests, len(roles.HostOnly()))
	for name, open := range map[string]func(t *testing.T) *attacker{
		"an admin":              func(t *testing.T) *attacker { return embedded(t).attacker(t, "admin") },
		"an admin on a node":    func(t *testing.T) *attacker { return nodes(t).attacker(t, "admin") },
		"an operator on a node": func(t *testing.T) *attacker { return nodes(t).attacker(t, "operator") },
		"who has joined": func(t *testing.T) *attacker {
			s := embedded(t, func(c *broker.Config) { c.Keys = nil })
			return s.attacker(t, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t)
			before := a.site.state(t)
			for _, r := range roles.HostOnly() {
				body, ok := requests[strings.TrimPrefix(r, "$JS.API.STREAM.")]
				require.True(t, ok, r)
				a.next()
				a.send(r, a.inbox, body)
				a.settle(t)
				require.False(t, a.answered(), r)
				require.Equal(t, before, a.site.state(t), r)
			}
			require.EqualValues(t, len(requests), a.refused.Load())
			a.next()
			info := "$JS.API.STREAM.INFO.EVENTS"
			if a.key.Role == roles.Operator {
				info = roles.APIPrefix + ".STREAM.INFO.EVENTS"
			}
			a.send(info, a.inbox, "")
			require.Eventually(t, a.answered, 10*time.Second, time.Millisecond, "the rest is granted")

			// The host's own connections may: an update with max_age deletes the Log. (The
			// control: the requests above would have had an effect.)
			answer, err := a.site.owner.Request("$JS.API.STREAM.UPDATE.EVENTS", []byte(requests["UPDATE.EVENTS"]), 5*time.Second)
			require.NoError(t, err)
			require.NotContains(t, string(answer.Data), `"error"`)
			require.Eventually(t, func() bool { return before != a.site.state(t) }, 10*time.Second, 10*time.Millisecond)
		})
	}
}
