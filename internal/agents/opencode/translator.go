package opencode

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"durablestream/event"
	"durablestream/internal/agents/source"
)

// Config is how a Translator speaks. The zero value works.
type Config struct {
	// Instance names this run of OpenCode, for example host and pid; it is put into
	// the metadata of each event, so that a recovery can tell whose sessions are
	// alive. Empty: none.
	Instance string
	// Stream takes the events that belong to no session. Default "opencode".
	Stream string
	// User is who answers in OpenCode. Default "user".
	User string
	// Interval is the least time between two snapshots of a text that streams, and the
	// most of it that a crash costs. Default 1 s.
	Interval time.Duration
	// Limit is the most bytes that a payload may have; what is larger is cut. It must
	// leave room for the rest of the message. Default 8 MiB less 64 KiB, which fits
	// the log's own broker; at least 4096.
	Limit int
	// Skip names bus events that are not to be recorded at all. Default none.
	Skip []string
}

// Stats counts what a Translator saw since it began.
type Stats struct {
	Taken     int // bus events
	Repeated  int // had been taken before, by their id
	Joined    int // deltas that went into a text
	Covered   int // said again what another event says, by the rules of docs/opencode.md
	Late      int // deltas for a text that had been stored whole
	Skipped   int // by Config.Skip
	Cut       int // payloads that were cut
	Unknown   int // kept as opencode.<type> because no rule knows them
	Evictions int // sessions put out of memory while they were busy
}

// What a Translator keeps: the ids of the last events; of a busy session its open
// texts and calls and its last messages; of an idle one its parent, its agent and
// its last messages' hashes. A deleted session leaves nothing.
const (
	keepIDs      = 16384
	keepSessions = 4096
	keepMessages = 32   // a session
	keepParts    = 4096 // a session: open or ended since it was last idle
	keepEdits    = 256
)

// Translator turns the bus events of one OpenCode process into what is to be done
// with the log. It is not safe for concurrent use.
type Translator struct {
	cfg      Config
	stats    Stats
	seen     map[string]struct{}
	ring     []string // the ids in seen, oldest at next
	next     int
	sessions map[string]*session
	asks     map[string]*ask
	edits    map[string]edit
	lagging  []lag
	clock    int64 // grows with each event: which session was used last

	// of the event that is being taken
	bus  BusEvent
	now  time.Time
	at   int64
	out  []source.Item
	held bool

	released []int64
	seed     *memory // of the process before
}

// New returns a Translator that knows nothing yet; see Seed.
func New(cfg Config) *Translator {
	cfg.Stream = cmp.Or(cfg.Stream, "opencode")
	cfg.User = cmp.Or(cfg.User, "user")
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	cfg.Limit = max(cmp.Or(cfg.Limit, 8<<20-64<<10), 4096)
	return &Translator{
		cfg: cfg, seen: map[string]struct{}{}, sessions: map[string]*session{},
		asks: map[string]*ask{}, edits: map[string]edit{},
	}
}

// Stats returns the counts so far.
func (t *Translator) Stats() Stats { return t.stats }

// Take takes one bus event and returns what is to be done, in order. An event that
// was taken before gives nothing. Input of any kind is welcome: what no rule knows
// becomes an "opencode." event.
func (t *Translator) Take(e BusEvent, now time.Time) []source.Item {
	t.stats.Taken++
	e = sane(e, now)
	if !t.isNew(e.ID) {
		t.stats.Repeated++
		return nil
	}
	t.begin(e, now)
	if t.seed != nil && t.told() {
		t.stats.Repeated++
		return t.end()
	}
	for _, s := range t.cfg.Skip {
		if s == e.Type {
			t.stats.Skipped++
			return t.end()
		}
	}
	if rule, ok := rules[e.Type]; !ok || !isObject(e.Properties) || !rule(t) {
		t.stats.Unknown++
		t.keep(t.sessionOf(e.Properties))
	}
	t.snapshots(false)
	t.evict()
	return t.end()
}

// Tick gives the snapshots that are due. Call it when Due says so, or a few times a
// second.
func (t *Translator) Tick(now time.Time) []source.Item {
	t.begin(BusEvent{}, now)
	t.snapshots(false)
	return t.end()
}

// Due is when the next snapshot is due, if a text is streaming.
func (t *Translator) Due() (at time.Time, ok bool) {
	for _, l := range t.lagging {
		if g := l.behind(); g.dirty && (!ok || g.since.Before(at)) {
			at, ok = g.since, true
		}
	}
	return at.Add(t.cfg.Interval), ok
}

// Flush gives snapshots of all that is not stored yet: for the end of the process.
func (t *Translator) Flush(now time.Time) []source.Item {
	t.begin(BusEvent{}, now)
	t.snapshots(true)
	return t.end()
}

// rules are the bus events that have one. A rule that returns false could not read
// the event, and has changed nothing.
var rules map[string]func(*Translator) bool

func init() {
	rules = map[string]func(*Translator) bool{
		"session.created":      (*Translator).sessionCreated,
		"session.updated":      (*Translator).sessionUpdated,
		"session.diff":         (*Translator).sessionState,
		"todo.updated":         (*Translator).sessionState,
		"session.status":       (*Translator).sessionStatus,
		"session.idle":         (*Translator).sessionIdle,
		"session.error":        (*Translator).sessionError,
		"session.compacted":    (*Translator).sessionCompacted,
		"session.deleted":      (*Translator).sessionDeleted,
		"message.updated":      (*Translator).messageUpdated,
		"message.part.updated": (*Translator).partUpdated,
		"message.part.delta":   (*Translator).partDelta,
		"permission.asked":     (*Translator).permissionAsked,
		"permission.replied":   (*Translator).permissionReplied,
		"question.asked":       (*Translator).questionAsked,
		"question.replied":     (*Translator).questionReplied,
		"question.rejected":    (*Translator).questionRejected,
		"file.edited":          (*Translator).fileEdited,
		"file.watcher.updated": (*Translator).fileWatched,
	}
}

// sane gives an event the id, the type and the properties that it lacks.
func sane(e BusEvent, now time.Time) BusEvent {
	if e.Properties == nil {
		e.Properties = cmpRaw(e.line, json.RawMessage("{}"))
	}
	if !utf8.Valid(e.Properties) || !json.Valid(e.Properties) {
		e.Properties = text(bytes.ToValidUTF8(e.Properties, []byte("\uFFFD")))
	}
	if e.Type == "" {
		e.Type = "unreadable"
		e.Properties = cmpRaw(e.line, e.Properties)
	}
	switch {
	case e.ID == "":
		e.ID = "oc_" + digest(append([]byte(e.Type+"\n"), e.Properties...))[:32] + "." + strconv.FormatInt(now.UnixNano(), 36)
	case event.ValidateID("id", e.ID) != nil:
		e.ID = "oc_" + digest([]byte(e.ID))[:32]
	}
	return e
}

func cmpRaw(a, b json.RawMessage) json.RawMessage {
	if a != nil {
		return a
	}
	return b
}

func (t *Translator) isNew(id string) bool {
	if _, ok := t.seen[id]; ok {
		return false
	}
	if len(t.ring) < keepIDs {
		t.ring = append(t.ring, id)
	} else {
		delete(t.seen, t.ring[t.next])
		t.ring[t.next] = id
		t.next = (t.next + 1) % keepIDs
	}
	t.seen[id] = struct{}{}
	return true
}

func (t *Translator) begin(e BusEvent, now time.Time) {
	t.bus, t.now, t.at, t.out, t.held = e, now, busTime(e.ID, now), nil, false
	t.clock++
}

func (t *Translator) end() []source.Item {
	out := t.out
	t.bus, t.out = BusEvent{}, nil
	return out
}

// draft is an event that is about to be given out.
type draft struct {
	id      string // default: the bus event's
	typ     string
	session string
	actor   string // default "opencode"
	cause   string
	payload json.RawMessage
	cuts    int             // made in it already
	upTo    string          // the last bus event that it holds; default: the one being taken
	more    json.RawMessage // of the bus event, for metadata
}

// event makes a whole event of a draft.
func (t *Translator) event(d draft) event.Event {
	payload, cuts := shorten(d.payload, t.cfg.Limit, event.MaxDepth-1)
	more, _ := cutDeep(d.more, event.MaxDepth-2)
	if cuts += d.cuts; cuts > 0 {
		t.stats.Cut++
	}
	meta := struct {
		Event    string          `json:"opencode_event,omitempty"` // where it is not the id
		Type     string          `json:"opencode_type,omitempty"`  // where the type says it otherwise
		Instance string          `json:"opencode_instance,omitempty"`
		Cut      int             `json:"cut,omitempty"` // strings cut in the payload
		More     json.RawMessage `json:"opencode_properties,omitempty"`
	}{Instance: t.cfg.Instance, Cut: cuts, More: more}
	if d.id != "" && d.id != t.bus.ID {
		meta.Event = cmp.Or(d.upTo, t.bus.ID)
	}
	if name, ok := cutPrefix(d.typ); ok && t.bus.Type != name {
		meta.Type = clip(t.bus.Type, 1024)
	}
	e := event.Event{
		ID: cmp.Or(d.id, t.bus.ID), Type: d.typ, StreamID: t.stream(d.session),
		CausationID: d.cause, CorrelationID: t.root(d.session), Actor: cmp.Or(d.actor, "opencode"),
		Timestamp: event.Milli(t.at).Time, Payload: payload,
	}
	if m := marshal(meta); len(m) > 2 {
		e.Metadata = m
	}
	return e
}

func cutPrefix(typ string) (string, bool) {
	if len(typ) > len(prefix) && typ[:len(prefix)] == prefix {
		return typ[len(prefix):], true
	}
	return "", false
}

// clip is s, or its first bytes where it is too long.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return prefixOf(s, most)
}

// plain gives out an event that is only to be appended.
func (t *Translator) plain(d draft) { t.out = append(t.out, source.Item{Event: t.event(d)}) }

// keep gives out the bus event as it is.
func (t *Translator) keep(session string) {
	t.plain(draft{typ: typeName(t.bus.Type), session: session, payload: t.bus.Properties})
}

// covered notes an event that says nothing new.
func (t *Translator) covered() bool {
	t.stats.Covered++
	return true
}

// stream is the stream of a session's events.
func (t *Translator) stream(session string) string {
	if event.ValidateStreamID(session) != nil {
		return t.cfg.Stream
	}
	return session
}

// root is the session at the top of the family: it correlates a run with its
// sub-agents.
func (t *Translator) root(session string) string {
	for range 32 { // deeper is a ring
		s := t.sessions[session]
		if s == nil || s.parent == "" {
			break
		}
		session = s.parent
	}
	return t.stream(session)
}

// sessionOf finds the session in an event's properties.
func (t *Translator) sessionOf(properties json.RawMessage) string {
	var p struct {
		SessionID any `json:"sessionID"`
	}
	if isObject(properties) && read(properties, &p) {
		id, _ := p.SessionID.(string)
		return id
	}
	return ""
}

// sum is a fingerprint of a value, to see whether it was said before.
func sum(b []byte) [32]byte { return sha256.Sum256(b) }
