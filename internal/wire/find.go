package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"durablestream/event"
)

// FindSubject is the subject at which a host answers which stored messages match a
// question, as far as its index reaches. A client without an answer, or with a partial
// one, reads the Log itself.
const FindSubject = "ds.host.find"

// FindGroup is the queue group of the hosts that answer: any node of a cluster can.
const FindGroup = "find"

// Find is a question to a host.
type Find struct {
	Log   int64          `json:"log"` // when the Log was made, Unix ns: another one's host has no answer
	After event.Sequence `json:"after"`
	Until event.Sequence `json:"until,omitempty"` // 0: as far as the index goes
	// The conditions; all that are set must match. Subjects are like a consumer's
	// filters.
	Subjects    []string `json:"subjects,omitempty"`
	Actor       string   `json:"actor,omitempty"`
	Correlation string   `json:"correlation,omitempty"`
	Since       int64    `json:"since,omitempty"` // bounds of the event's timestamp, Unix ms, inclusive
	Before      int64    `json:"before,omitempty"`
	Limit       int      `json:"limit,omitempty"` // messages are enough
	NoHeaders   bool     `json:"no_headers,omitempty"`
}

// Stored is one stored message.
type Stored struct {
	Seq     event.Sequence
	Time    int64 // the server's clock, ns since 1970
	Subject string
	Header  []byte // as NATS sends it; empty: none
	Data    []byte
}

// Found is the answer to a Find: all matching messages in (After, Through], and possibly
// others that do not match. With More, the index has further messages; without it, the
// client must read the rest from the Log.
type Found struct {
	Through event.Sequence
	More    bool
	Node    string // of a cluster, that has answered

	Messages []Stored // in order
}

const (
	headerThrough = "Ds-Through"
	headerMore    = "Ds-More"
	headerNode    = "Ds-Node"

	storedHead = 8 + 8 + 2 + 4 + 4
)

// StoredSize is the size of a message in an answer.
func StoredSize(s Stored) int {
	return storedHead + len(s.Subject) + len(s.Header) + len(s.Data)
}

// AppendStored appends a message to an answer's body.
func AppendStored(b []byte, s Stored) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Seq))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Time))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Subject)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Data)))
	b = append(b, s.Subject...)
	b = append(b, s.Header...)
	return append(b, s.Data...)
}

// EncodeFound composes the answer whose body is made of AppendStored.
func EncodeFound(f Found, body []byte) *nats.Msg {
	m := &nats.Msg{Header: nats.Header{headerThrough: []string{f.Through.String()}}, Data: body}
	if f.More {
		m.Header[headerMore] = []string{"1"}
	}
	if f.Node != "" {
		m.Header[headerNode] = []string{f.Node}
	}
	return m
}

// count is how many messages an answer's body begins.
func count(b []byte) (n int) {
	for len(b) >= storedHead {
		size := uint64(storedHead) + uint64(binary.LittleEndian.Uint16(b[16:])) + uint64(binary.LittleEndian.Uint32(b[18:])) + uint64(binary.LittleEndian.Uint32(b[22:]))
		b = b[min(size, uint64(len(b))):]
		n++
	}
	return n
}

var errFound = errors.New("wire: the host's answer to a find cannot be read")

// DecodeFound reads an answer. Its messages' parts are the body's.
func DecodeFound(m *nats.Msg) (Found, error) {
	through, err := strconv.ParseUint(m.Header.Get(headerThrough), 10, 64)
	if err != nil {
		return Found{}, fmt.Errorf("%w: %w", errFound, err)
	}
	f := Found{Through: event.Sequence(through), More: m.Header.Get(headerMore) != "", Node: m.Header.Get(headerNode)}
	f.Messages = make([]Stored, 0, count(m.Data))
	for b := m.Data; len(b) > 0; {
		if len(b) < storedHead {
			return Found{}, errFound
		}
		s := Stored{Seq: event.Sequence(binary.LittleEndian.Uint64(b)), Time: int64(binary.LittleEndian.Uint64(b[8:]))}
		subject, header := int(binary.LittleEndian.Uint16(b[16:])), int(binary.LittleEndian.Uint32(b[18:]))
		data := int(binary.LittleEndian.Uint32(b[22:]))
		b = b[storedHead:]
		if subject+header+data > len(b) {
			return Found{}, errFound
		}
		s.Subject = string(b[:subject])
		s.Header = b[subject : subject+header : subject+header]
		s.Data = b[subject+header : subject+header+data : subject+header+data]
		f.Messages = append(f.Messages, s)
		b = b[subject+header+data:]
	}
	return f, nil
}

// Encode gives the question's body.
func (q Find) Encode() []byte {
	out, err := json.Marshal(q)
	if err != nil { // numbers and strings
		panic(err)
	}
	return out
}

// DecodeFind reads a question.
func DecodeFind(body []byte) (q Find, err error) {
	if err = json.Unmarshal(body, &q); err != nil {
		err = fmt.Errorf("wire: a find cannot be read: %w", err)
	}
	return q, err
}
