package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"durablestream/event"
)

// The headers of a stored message. Nats-Msg-Id is the engine's own.
const (
	HeaderID          = "Nats-Msg-Id"
	HeaderActor       = "Ds-Actor"
	HeaderCorrelation = "Ds-Correlation"
	HeaderGuard       = "Ds-Guard"

	HeaderExpectedLast        = "Nats-Expected-Last-Sequence"
	HeaderExpectedLastSubject = "Nats-Expected-Last-Subject-Sequence"
	HeaderExpectedOther       = "Nats-Expected-Last-Subject-Sequence-Subject" // the subject that it is about, where it is not the message's own
	HeaderBatchID             = "Nats-Batch-Id"
	HeaderBatchSequence       = "Nats-Batch-Sequence"
	HeaderBatchCommit         = "Nats-Batch-Commit"

	// Of the answers to a direct read.
	HeaderUpTo     = "Nats-UpTo-Sequence" // how far the replica is that answers
	HeaderOfStream = "Nats-Stream"        // in every stored message, and in nothing else
	StatusEnd      = "204"
)

// The headers and states of a consumer's answer to a pull request; its idle heartbeat
// reports its position.
const (
	HeaderStatus       = "Status"
	StatusHeartbeat    = "100"
	StatusExpired      = "408"
	StatusConflict     = "409"
	HeaderLastStream   = "Nats-Last-Stream"   // the Sequence up to which it has looked
	HeaderLastConsumer = "Nats-Last-Consumer" // how many messages it has sent
)

const hashed = "sha256:"

// HeaderValue gives the form of s in a header: s itself where it is printable
// ASCII without outer spaces, else sha256:<hex>. A value that begins like a hash
// is hashed too, so that two values never share a form.
func HeaderValue(s string) string {
	plain := s != "" && s == strings.TrimSpace(s) && !strings.HasPrefix(s, hashed)
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hashed + hex.EncodeToString(sum[:])
}

// Encode composes the message that stores an event. Payload and Metadata must be
// compact already; r.Seq is not part of it.
func Encode(r event.Recorded) *nats.Msg {
	return EncodeBody(r, r.AppendBody(nil))
}

// EncodeBody is Encode for an event whose body is already known, such as an event from
// the mirror.
func EncodeBody(r event.Recorded, body []byte) *nats.Msg {
	m := nats.NewMsg(EventSubject(r.Type, r.StreamID))
	values := []string{HeaderValue(r.ID), HeaderValue(r.Actor), HeaderValue(r.CorrelationID)}
	m.Header[HeaderID] = values[0:1:1]
	m.Header[HeaderActor] = values[1:2:2]
	m.Header[HeaderCorrelation] = values[2:3:3]
	if r.Guard != "" {
		m.Header[HeaderGuard] = []string{r.Guard}
	}
	m.Data = body
	return m
}

// EncodeGuard composes a guard message.
func EncodeGuard(subject string, body []byte) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Data = body
	return m
}

// Size is the size that counts against the server's max_payload: headers and body.
func Size(m *nats.Msg) int { return m.Size() - len(m.Subject) - len(m.Reply) }

// SizeAtMost is no less than the Size of Encode(*r), without composing it.
func SizeAtMost(r *event.Recorded) int {
	// A text may be in the body, where one byte has up to six, and in a header; names are
	// those of all members and headers, with the hashes of texts that no header takes.
	const names, text = 1024, 7
	n := names + text*(len(r.ID)+len(r.Type)+len(r.StreamID)+len(r.CausationID)+len(r.CorrelationID)+len(r.Actor)+len(r.Guard)) + len(r.Payload) + len(r.Metadata)
	for _, f := range r.Extra {
		n += text*len(f.Name) + len(f.Value) + len(`,"":`)
	}
	return n
}

// Decode reads a stored event. Its subject must match its type and stream_id: a message
// that was published by hand under another subject is not an event.
func Decode(subject string, body []byte, seq event.Sequence) (event.Recorded, error) {
	s, err := event.ScanBody(body)
	if err == nil {
		err = checkSubject(subject, &s)
	}
	if err != nil {
		return event.Recorded{}, &DecodeError{seq, subject, err}
	}
	r := s.Event()
	r.Seq = seq
	return r, nil
}

// Check gives the error that Decode would give, at less cost.
func Check(subject string, body []byte, seq event.Sequence) error {
	s, err := event.ScanBody(body)
	if err == nil {
		err = checkSubject(subject, &s)
	}
	if err != nil {
		return &DecodeError{seq, subject, err}
	}
	return nil
}

func checkSubject(subject string, s *event.Stored) error {
	if typ, streamID := s.Type(), s.StreamID(); !isEventSubject(subject, typ, streamID) {
		return &event.InvalidError{Field: "subject", Value: subject,
			Rule: "must be " + EventSubject(string(typ), string(streamID)) + " for this type and stream_id"}
	}
	return nil
}

// isEventSubject reports whether subject is EventSubject(typ, streamID), which it need
// not compose where the stream's token is the stream_id itself.
func isEventSubject(subject string, typ, streamID []byte) bool {
	const head = len(Events) + 1
	at := head + len(typ) + 1
	if len(subject) != at+len(streamID) {
		return subject == EventSubject(string(typ), string(streamID))
	}
	for i := range len(streamID) {
		if !inToken[streamID[i]] {
			return subject == EventSubject(string(typ), string(streamID))
		}
	}
	return subject[:head] == Events+"." && subject[head:at-1] == string(typ) && subject[at-1] == '.' && subject[at:] == string(streamID)
}

// inToken are the ASCII characters that stand for themselves in a token.
var inToken = func() (t [256]bool) {
	for c := range utf8.RuneSelf {
		_, bad := escaped(string(rune(c)))
		t[c] = !bad
	}
	return t
}()

// DecodeError reports a message in the Log that is not an event. Readers set it aside and
// continue.
type DecodeError struct {
	Seq     event.Sequence
	Subject string
	Err     error
}

func (e *DecodeError) Error() string {
	return "wire: message " + e.Seq.String() + " on " + e.Subject + " is not an event: " + e.Err.Error()
}

func (e *DecodeError) Unwrap() error { return e.Err }
