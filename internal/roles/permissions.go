package roles

import (
	"slices"
	"strings"

	"durablestream/event"
	"durablestream/internal/wire"
)

// Permissions are the subjects that a key may use; a publish must match one of
// Publish and none of Deny.
type Permissions struct {
	Publish, Deny, Subscribe []string
}

// APIPrefix is what agents and operators say for $JS.API.
const APIPrefix = "LOGJS.API"

const (
	api = "$JS.API"
	// UserInfo is where a client asks what it may do.
	UserInfo = "$SYS.REQ.USER.INFO"
)

// decisions are the types that only those who may decide may store.
var decisions = append(event.Decisions(), event.CheckpointGuardVoided)

// guardKinds are the guards that each role may move. Void is a restore's alone.
var guardKinds = map[Role][]string{
	Agent:    {event.GuardRequest, event.GuardIntent, event.GuardUser, event.GuardBarrier},
	Operator: {event.GuardRequest, event.GuardIntent, event.GuardUser, event.GuardBarrier, event.GuardCheckpoint, event.GuardImport},
}

// requests are what may be asked of JetStream through an import: reading, and no
// more. streamed says that an answer may be many messages.
//
// There is no DELETE of consumers among them: a consumer that is not read goes by
// itself. CREATE can also change a consumer whose name is known, so names are
// random and nobody is let in to where they could be listed.
var requests = []struct {
	subject  string
	streamed bool
}{
	{"STREAM.INFO." + wire.LogName, false},
	{"STREAM.MSG.GET." + wire.LogName, false},
	{"CONSUMER.CREATE." + wire.LogName + ".>", false},
	{"CONSUMER.INFO." + wire.LogName + ".*", false},
	{"CONSUMER.MSG.NEXT." + wire.LogName + ".*", true},
	{"DIRECT.GET." + wire.LogName, true},
	{"DIRECT.GET." + wire.LogName + ".>", true},
}

// service is one subject that LOG lets an account reach: From is what it is called
// there.
type service struct {
	subject, from string
	streamed      bool
}

// services are those of an account. With the name of a gate, what is published to the Log is led to the
// node's gate, which checks it and passes it on (see wire.GateSubject).
func services(r Role, gate string) []service {
	log := []string{wire.AllEvents}
	for _, kind := range guardKinds[r] {
		log = append(log, wire.GuardFilter(kind))
	}
	var out []service
	for _, subject := range log {
		to := subject
		if gate != "" {
			to = wire.GateSubject(gate, subject)
		}
		out = append(out, service{to, subject, false})
	}
	for _, q := range requests {
		out = append(out, service{api + "." + q.subject, APIPrefix + "." + q.subject, q.streamed})
	}
	return append(out, service{wire.StatusSubject, wire.StatusSubject, true}, // each node answers
		service{wire.FindSubject, wire.FindSubject, false},
		service{wire.CheckSubject(""), wire.CheckSubject(""), false},
		service{wire.CheckSubject("*"), wire.CheckSubject("*"), false})
}

// InboxPrefix is where the answers for a key arrive; nobody else may listen there.
func InboxPrefix(public string) string { return "_INBOX." + public }

// Of gives the permissions of a key.
func Of(k Key) Permissions {
	p := Permissions{Subscribe: []string{InboxPrefix(k.Public) + ".>"}}
	if k.Role == Admin {
		p.Publish = []string{">"}
		return p
	}
	for _, s := range services(k.Role, "") {
		p.Publish = append(p.Publish, s.from)
	}
	p.Publish = append(p.Publish, UserInfo)
	if !slices.Contains(guardKinds[k.Role], event.GuardCheckpoint) {
		for _, typ := range decisions {
			p.Deny = append(p.Deny, wire.Events+"."+typ+".*")
		}
	}
	return p
}

// MayPublish reports whether the server takes a message on a literal subject.
func (p Permissions) MayPublish(subject string) bool {
	match := func(pattern string) bool { return Matches(pattern, subject) }
	return slices.ContainsFunc(p.Publish, match) && !slices.ContainsFunc(p.Deny, match)
}

// Role is the one that has these permissions; "" if they are no role's of ours.
func (p Permissions) Role() Role {
	switch {
	case p.mayAll():
		return Admin
	case p.MayPublish(wire.GuardSubject(event.GuardCheckpoint, "x")):
		return Operator
	case p.MayPublish(wire.GuardSubject(event.GuardRequest, "x")):
		return Agent
	}
	return ""
}

// Prefix is what JetStream's API is called for who has these permissions.
func (p Permissions) Prefix() string {
	if p.MayPublish(APIPrefix+".STREAM.INFO."+wire.LogName) && !p.MayPublish(api+".STREAM.INFO."+wire.LogName) {
		return APIPrefix
	}
	return api
}

// Matches reports whether a pattern with * and > holds a literal subject.
func Matches(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		s, srest, smore := strings.Cut(subject, ".")
		if p == ">" {
			return s != ""
		}
		if p != "*" && p != s || pmore != smore {
			return false
		}
		if !pmore {
			return true
		}
		pattern, subject = prest, srest
	}
}
