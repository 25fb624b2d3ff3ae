package wire

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The gate is where a node leads what agents and operators publish to the Log, so that it
// is checked before the engine takes it: a server's permissions do not see headers.
const gate = "dstream.gate."

// GateSubject is what a subject of the Log, or a pattern of them, is called at the gate of that
// name. Each node's gate has a name of its own, so that one goroutine takes what a connection sends,
// in its order.
func GateSubject(name, subject string) string { return gate + name + "." + subject }

// taken are the headers that clients send. Of the engine's own, only these are let through: with
// Nats-Expected-Last-Msg-Id and a wrong id one message stops a replicated stream for good.
var taken = map[string]bool{
	HeaderID: true, HeaderActor: true, HeaderCorrelation: true, HeaderGuard: true,
	HeaderExpectedLast: true, HeaderExpectedLastSubject: true,
	HeaderBatchID: true, HeaderBatchSequence: true, HeaderBatchCommit: true,
}

// headerRequest is what a server adds to a message that comes through an import.
const headerRequest = "Nats-Request-Info"

// CheckGate says why a message is not taken, as the answer to who published it; nil: it is, and
// h holds what is to be stored.
func CheckGate(h nats.Header) (refusal []byte) {
	delete(h, headerRequest)
	for name := range h {
		if !taken[name] {
			return refusedHeader(name)
		}
	}
	return nil
}

// refusedHeader is an answer in the engine's own form, so that any client understands it.
func refusedHeader(name string) []byte {
	var a struct {
		Error struct {
			Code    int    `json:"code"`
			ErrCode int    `json:"err_code"`
			Words   string `json:"description"`
		} `json:"error"`
		Stream   string `json:"stream"`
		Sequence uint64 `json:"seq"`
	}
	a.Error.Code, a.Error.ErrCode = 400, int(jetstream.JSErrCodeBadRequest)
	a.Error.Words = fmt.Sprintf("the header %q is not taken with this key", name)
	a.Stream = LogName
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return b
}

// FromGate is the subject of the Log that a message at the gate was published to.
func FromGate(name, subject string) string { return strings.TrimPrefix(subject, gate+name+".") }
