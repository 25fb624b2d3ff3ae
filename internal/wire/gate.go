package wire

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"durablestream/internal/engine"
)

// The gate is the prefix under which a node receives the messages of agents and operators
// to the Log, to check them before the engine accepts them: a server's permissions do not
// see headers.
const gate = "dstream.gate."

// GateSubject is the subject, at the gate of that name, for a subject of the Log or a
// pattern of subjects. Each node's gate has its own name, so that one goroutine receives
// the messages of a connection in their order.
func GateSubject(name, subject string) string { return gate + name + "." + subject }

// FromGate is the subject of the Log that a message at the gate was published to; ok reports that
// it is one.
func FromGate(name, subject string) (log string, ok bool) {
	log, ok = strings.CutPrefix(subject, gate+name+".")
	return log, ok && (strings.HasPrefix(log, Events+".") || strings.HasPrefix(log, Guards+"."))
}

// taken are the engine's headers that clients send. The gate accepts no others: one
// message with Nats-Expected-Last-Msg-Id and a wrong id stops a replicated stream for
// good.
var taken = map[string]bool{
	HeaderID: true, HeaderExpectedLast: true, HeaderExpectedLastSubject: true,
	HeaderBatchID: true, HeaderBatchSequence: true, HeaderBatchCommit: true,
}

// headerRequest is what a server adds to a message that comes through an import: whose it is.
const headerRequest = "Nats-Request-Info"

// GateAccount removes the header that a server adds to a message on its way through an
// import, and returns the account of the sending connection. It returns "" for a message
// that came another way.
func GateAccount(h nats.Header) string {
	var from struct {
		Account string `json:"acc"`
	}
	if v := h[headerRequest]; len(v) > 0 {
		_ = json.Unmarshal([]byte(v[0]), &from) // else the account is ""
	}
	delete(h, headerRequest)
	return from.Account
}

// CheckGate returns the refusal of a message with these headers, as the answer to its
// publisher; nil if the gate accepts it.
func CheckGate(h nats.Header) (refusal []byte) {
	for name := range h {
		if !taken[name] && (ofEngine(name) || !isToken(name)) {
			return RefuseAtGate(fmt.Sprintf("the header %q is not taken with this key", name))
		}
	}
	return nil
}

// ofEngine reports a header that means something to the engine, or to its clients where a stored
// message has it. The engine tells upper case from lower case; a later one may not.
func ofEngine(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "nats-") || name == "status" || name == "description"
}

// isToken reports that a header's name is read in one way only.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// RefuseAtGate is an answer in the engine's own form, so that any client understands it.
func RefuseAtGate(words string) []byte {
	return gateError(400, jetstream.JSErrCodeBadRequest, words)
}

// BusyGate is the answer of a gate with too many waiting messages. Clients retry.
func BusyGate() []byte {
	return gateError(503, engine.CodeTooManyWaiting, "too much waits to be checked on this node")
}

func gateError(status int, code jetstream.ErrorCode, words string) []byte {
	var a struct {
		Error struct {
			Code    int                 `json:"code"`
			ErrCode jetstream.ErrorCode `json:"err_code"`
			Words   string              `json:"description"`
		} `json:"error"`
		Stream   string `json:"stream"`
		Sequence uint64 `json:"seq"`
	}
	a.Error.Code, a.Error.ErrCode, a.Error.Words, a.Stream = status, code, words, LogName
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return b
}
