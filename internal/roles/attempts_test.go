package roles_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"durablestream/internal/roles"
	"durablestream/internal/wire"
)

// attempt is something that a role must not be able to do.
type attempt struct {
	name string
	do   func(a *attacker)
	// silent: nothing may come to the attacker's own inbox either.
	silent bool
	// by are those for whom it is forbidden; nil: agents and operators.
	by []roles.Role
}

var (
	agents    = []roles.Role{roles.Agent}
	decisions = []string{"approved", "rejected", "expired", "cancelled"}
	batch     = func(id string, seq int, commit bool) []string {
		h := []string{wire.HeaderBatchID, id, wire.HeaderBatchSequence, fmt.Sprint(seq)}
		if commit {
			h = append(h, wire.HeaderBatchCommit, "1")
		}
		return h
	}
)

// forbidden are requests of JetStream that neither agents nor operators may make,
// each with a body that it would take.
var forbidden = map[string]string{
	"STREAM.DELETE.EVENTS":                  "",
	"STREAM.PURGE.EVENTS":                   "",
	"STREAM.UPDATE.EVENTS":                  `{"name":"EVENTS","subjects":["events.>"],"storage":"file"}`,
	"STREAM.CREATE.mine":                    `{"name":"mine","subjects":["mine.>"],"storage":"memory"}`,
	"STREAM.CREATE.thief":                   `{"name":"thief","sources":[{"name":"EVENTS"}],"storage":"memory"}`,
	"STREAM.MSG.DELETE.EVENTS":              `{"seq":1}`,
	"STREAM.SNAPSHOT.EVENTS":                `{"deliver_subject":"guards.user.snapshot"}`,
	"STREAM.RESTORE.EVENTS":                 `{"config":{"name":"EVENTS","subjects":["events.>"]}}`,
	"STREAM.LEADER.STEPDOWN.EVENTS":         "",
	"STREAM.PEER.REMOVE.EVENTS":             `{"peer":"n1"}`,
	"STREAM.NAMES":                          "",
	"STREAM.LIST":                           "",
	"STREAM.INFO.OTHER":                     "",
	"CONSUMER.NAMES.EVENTS":                 "",
	"CONSUMER.LIST.EVENTS":                  "",
	"CONSUMER.DELETE.EVENTS.known":          "",
	"CONSUMER.PAUSE.EVENTS.known":           `{"pause_until":"2100-01-01T00:00:00Z"}`,
	"CONSUMER.RESET.EVENTS.known":           `{"seq":3}`,
	"CONSUMER.UNPIN.EVENTS.known":           `{"group":"g"}`,
	"CONSUMER.LEADER.STEPDOWN.EVENTS.known": "",
	"CONSUMER.DURABLE.CREATE.EVENTS.known":  `{"stream_name":"EVENTS","config":{"durable_name":"known","filter_subject":"nothing"}}`,
	"CONSUMER.CREATE.EVENTS":                `{"stream_name":"EVENTS","config":{"name":"known","filter_subject":"nothing"}}`,
	"CONSUMER.CREATE.OTHER.x":               `{"stream_name":"EVENTS","config":{"name":"x"}}`,
	"ACCOUNT.PURGE.LOG":                     "",
	"META.LEADER.STEPDOWN":                  "",
	"SERVER.REMOVE":                         `{"peer":"n1"}`,
	"INFO":                                  "",
}

// permitted are the requests that every role may make, by the name of JetStream's
// API in %s; each makes an answer, some an empty one, some with a body that was
// chosen, some many.
var permitted = []struct{ name, subject, body string }{
	{"the Log's state", "%s.STREAM.INFO.EVENTS", ""},
	{"a stored message", "%s.STREAM.MSG.GET.EVENTS", `{"seq":3}`},
	{"a stored message, directly", "%s.DIRECT.GET.EVENTS.events.test.stored.s2", ""},
	{"a stored message, directly, by its seq", "%s.DIRECT.GET.EVENTS", `{"seq":4}`},
	{"an empty stored message", "%s.DIRECT.GET.EVENTS.events.test.stored.s1", ""},
	{"a message that is not there", "%s.DIRECT.GET.EVENTS.events.test.none.s", ""},
	{"stored messages", "%s.DIRECT.GET.EVENTS", `{"batch":4,"seq":1,"next_by_subj":"events.test.stored.*"}`},
	{"last messages", "%s.DIRECT.GET.EVENTS", `{"multi_last":["events.test.stored.*"]}`},
	{"a bad direct get", "%s.DIRECT.GET.EVENTS", "{"},
	{"a consumer", "%s.CONSUMER.CREATE.EVENTS.mine_r", `{"stream_name":"EVENTS","config":{"name":"mine_r","ack_policy":"none","mem_storage":true,"inactive_threshold":60000000000}}`},
	{"a consumer's state", "%s.CONSUMER.INFO.EVENTS.mine_r", ""},
	{"a consumer's messages", "%s.CONSUMER.MSG.NEXT.EVENTS.mine_r", `{"batch":4}`},
	{"no more messages", "%s.CONSUMER.MSG.NEXT.EVENTS.mine_r", `{"batch":4000,"no_wait":true}`},
	{"heartbeats", "%s.CONSUMER.MSG.NEXT.EVENTS.mine_r", `{"batch":4000,"expires":1000000000,"idle_heartbeat":100000000}`},
	{"an append", "events.test.attempt.s", mine},
	{"a guard", "guards.user.attempt", mine},
	{"what a key may do", roles.UserInfo, ""},
	{"the host's status", wire.StatusSubject, ""},
}

// targets are subjects that no answer may get to; others is another key's inbox.
func targets(a *attacker, others string) []string {
	return []string{
		"guards.checkpoint.open", "guards.import.x", "guards.void.9",
		"events.checkpoint.approved.S", "events.test.junk.S",
		"$JS.API.STREAM.DELETE.EVENTS", roles.APIPrefix + ".STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.MSG.DELETE.EVENTS",
		"$JS.API.CONSUMER.DELETE.EVENTS.known", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.known", a.site.api + ".CONSUMER.MSG.NEXT.EVENTS.known",
		"$JS.ACK.EVENTS.known.1.1.1.1.1", "$JS.ACK.EVENTS.known.1.2.2.1.1.1", "_R_.x.y",
		"$SYS.REQ.ACCOUNT.LOG.CONNZ", others,
	}
}

// attempts are all of them; others is an inbox of another's, which must stay empty.
func attempts(others string) []attempt {
	out := []attempt{
		{name: "decide by hand", by: agents, do: func(a *attacker) {
			for _, d := range decisions {
				a.send("events.checkpoint."+d+".S", a.inbox, `{}`)
			}
		}, silent: true},
		{name: "write a decision's guard", by: agents, silent: true, do: func(a *attacker) {
			a.send("guards.checkpoint.open", a.inbox, `{}`, wire.HeaderExpectedLastSubject, "0")
			a.send("guards.checkpoint.another", "", `{}`)
		}},
		{name: "a guard and a decision as a batch", by: agents, do: func(a *attacker) {
			a.send("guards.checkpoint.open", a.inbox, `{}`, batch("b1", 1, false)...)
			a.send("events.checkpoint.approved.S", a.inbox, `{}`, batch("b1", 2, true)...)
		}},
		{name: "a decision inside a batch", by: agents, do: func(a *attacker) {
			a.send("events.test.attempt.s", "", mine, batch("b2", 1, false)...)
			a.send("guards.checkpoint.open", "", `{}`, batch("b2", 2, false)...)
			a.send("events.checkpoint.approved.S", "", `{}`, batch("b2", 3, false)...)
			a.send("events.test.attempt.s", "", mine, batch("b2", 4, true)...)
		}},
		{name: "a decision that ends a batch", by: agents, do: func(a *attacker) {
			a.send("events.test.attempt.s", "", mine, batch("b3", 1, false)...)
			a.send("guards.checkpoint.open", "", `{}`, batch("b3", 2, true)...)
			a.send("events.test.attempt.s", "", mine, batch("b4", 1, false)...)
			a.send("events.checkpoint.rejected.S", "", `{}`, batch("b4", 2, true)...)
		}},
		{name: "an importer's guard", by: agents, silent: true, do: func(a *attacker) { a.send("guards.import.x", a.inbox, "{}") }},
		{name: "a filler, and guards of no kind", silent: true, do: func(a *attacker) {
			a.send("guards.void.6", a.inbox, "")
			a.send("guards.other.6", a.inbox, "")
			a.send("guards.request.open.more", a.inbox, "")
		}},
		{name: "deletion marks in a message", do: func(a *attacker) {
			for _, h := range [][]string{{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"}, {"KV-Operation", "PURGE"},
				{"Nats-Schedule", "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target", "guards.checkpoint.open"}} {
				a.send("events.test.attempt.s", "", mine, h...)
				a.send("guards.user.attempt", "", mine, h...)
			}
		}},
		{name: "traces onto forbidden subjects", do: func(a *attacker) {
			for _, to := range []string{"guards.void.9", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", others} {
				a.send("events.test.attempt.s", "", mine, "Nats-Trace-Dest", to)
				a.send(a.site.api+".STREAM.INFO.EVENTS", a.inbox, "", "Nats-Trace-Dest", to, "Nats-Trace-Only", "true")
			}
		}},
		{name: "a forged origin", do: func(a *attacker) {
			for _, acc := range []string{"LOG", "SYS", "$G"} {
				a.send(a.site.api+".STREAM.INFO.EVENTS", a.inbox, "", "Nats-Request-Info", `{"acc":"`+acc+`","svc":"`+acc+`","user":"admin"}`)
				a.send(a.site.api+".CONSUMER.CREATE.OTHER.x", a.inbox, `{"stream_name":"EVENTS"}`, "Nats-Request-Info", `{"acc":"`+acc+`"}`)
			}
		}},
		{name: "acknowledge for another's consumer", silent: true, do: func(a *attacker) {
			for _, body := range []string{"", "+ACK", "+TERM", "-NAK", "+WPI", `+NXT {"batch":10}`} {
				a.send("$JS.ACK.EVENTS.known.1.1.1.1.1", a.inbox, body)
				a.send("$JS.ACK._.x.EVENTS.known.1.1.1.1.1", a.inbox, body)
			}
		}},
		{name: "listen elsewhere", silent: true, do: func(a *attacker) {
			for _, subject := range []string{">", "*", "*.>", "events.>", "guards.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "_INBOX.>", "_INBOX.*.>",
				others, "_R_.>", "ds.>", "dstream.refused.>", "LOGJS.>", a.site.api + ".STREAM.INFO.EVENTS"} {
				_, _ = a.SubscribeSync(subject) // the server refuses later
				_, _ = a.QueueSubscribeSync(subject, "")
				_, _ = a.QueueSubscribeSync(subject, "q")
			}
		}},
		{name: "ask the server about itself and others", silent: true, do: func(a *attacker) {
			for _, subject := range []string{"SERVER.PING", "SERVER.PING.VARZ", "SERVER.PING.JSZ", "ACCOUNT.PING.CONNZ", "ACCOUNT.PING.STATZ", "ACCOUNT.LOG.CONNZ",
				"ACCOUNT.LOG.JSZ", "ACCOUNT.LOG.SUBSZ", "USER.x.INFO", "CLAIMS.LIST", "CLAIMS.DELETE", "SERVER.x.RELOAD"} {
				a.send("$SYS.REQ."+subject, a.inbox, "")
			}
			a.send("$SYS.ACCOUNT.LOG.DISCONNECT", a.inbox, "{}")
		}},
	}
	prefixes := []string{"$JS.API", roles.APIPrefix, "$JS.LOG.API", "$JS.hub.API"}
	for request, body := range forbidden {
		out = append(out, attempt{name: "ask for " + request, silent: true, do: func(a *attacker) {
			for _, p := range prefixes {
				a.send(p+"."+request, a.inbox, body)
			}
		}})
	}
	for _, p := range permitted {
		out = append(out, attempt{name: "have " + p.name + " sent elsewhere", do: func(a *attacker) {
			subject := p.subject
			if strings.Contains(subject, "%s") {
				subject = fmt.Sprintf(subject, a.site.api)
			}
			for i, to := range targets(a, others) {
				subject := subject
				if strings.Contains(subject, ".MSG.NEXT.") { // a consumer for each, with all its messages before it
					name := fmt.Sprint("mine_r", i)
					a.consumer(name)
					subject = strings.Replace(subject, "mine_r", name, 1)
				}
				a.send(subject, to, p.body)
			}
		}})
	}
	for _, to := range []string{"guards.checkpoint.open", "events.checkpoint.approved.S", "events.test.junk.S", "guards.void.9",
		"$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.UPDATE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.CREATE.thief",
		"$JS.API.CONSUMER.DELETE.EVENTS.known", "LOGJS.API.STREAM.DELETE.EVENTS", "$SYS.REQ.ACCOUNT.PING.CONNZ", "_INBOX.x.y"} {
		out = append(out, attempt{name: "a consumer that pushes to " + to, do: func(a *attacker) { push(a, to) }})
	}
	return out
}

// consumer makes one to read from, anew.
func (a *attacker) consumer(name string) {
	_ = a.site.js.DeleteConsumer(context.Background(), wire.LogName, name) // of an earlier attempt
	subject := fmt.Sprintf("%s.CONSUMER.CREATE.EVENTS.%s", a.site.api, name)
	answer, err := a.Request(subject, []byte(strings.ReplaceAll(permitted[9].body, "mine_r", name)), 5*time.Second)
	if err == nil && strings.Contains(string(answer.Data), `"error"`) {
		err = errors.New(string(answer.Data))
	}
	if err != nil && !a.gone() {
		panic(err)
	}
}

// gone reports that an attempt has had its way with the Log.
func (a *attacker) gone() bool {
	_, err := a.site.js.Stream(context.Background(), wire.LogName)
	return err != nil
}

// push makes consumers that deliver to a subject: messages, empty messages,
// heartbeats, and flow control.
func push(a *attacker, to string) {
	for i, with := range []string{``, `,"headers_only":true`, `,"idle_heartbeat":100000000`, `,"idle_heartbeat":100000000,"flow_control":true,"filter_subject":"nothing.at.all"`,
		`,"direct":true,"idle_heartbeat":100000000,"flow_control":true`, `,"sample_freq":"100"`} {
		name := fmt.Sprintf("mine_p%d", i)
		a.send(fmt.Sprintf("%s.CONSUMER.CREATE.EVENTS.%s", a.site.api, name), a.inbox, fmt.Sprintf(
			`{"stream_name":"EVENTS","config":{"name":%q,"deliver_subject":%q,"ack_policy":"none","mem_storage":true,"inactive_threshold":2000000000%s}}`, name, to, with))
	}
}
