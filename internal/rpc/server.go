// Package rpc serves the Log over JSON-RPC 2.0, one message a line: to agents in any
// language, over a pipe. docs/protocol.md describes the methods.
//
// Requests are carried out one after the other, in the order in which they came, so
// that a caller may send many appends without waiting: they are recorded in that order.
// What waits for something to happen (checkpoint.wait, checkpoint.cancel, the events of
// a subscription) begins in its turn and holds nobody up. Answers come when the event is
// durable.
//
// Nothing waits for the reader of the output. Answers are kept until they are read.
// Subscriptions pause while more than 1 MiB waits, and go on from where they were: they
// read the Log, so nothing is lost by that, in memory or in order.
//
// github.com/creachadair/jrpc2 reads and checks the messages and gives the errors their
// form. Its server is not used: it starts the handlers of a pipeline in no certain
// order, answers a subscription after its first event, and escapes what it passes on,
// where an event's bytes are to stay as they are. (github.com/sourcegraph/jsonrpc2 keeps
// the order, but decodes params into maps and writes them anew.)
package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/creachadair/jrpc2"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/agents"
	"durablestream/internal/agents/source"
)

// Config says what to serve, and to whom.
type Config struct {
	// In and Out are the lines of the caller and ours. Required.
	In  io.Reader
	Out io.Writer
	// Open opens the Log. It is called once, while input is being taken in already, and
	// waits as long as its context lasts. Required.
	Open func(context.Context) (*client.Client, error)
	// Drain is how long what was asked for may take after the input has ended.
	// Default 30 seconds.
	Drain time.Duration
	// Flush is how long a reader of Out may take for the last of it. Default 2 seconds.
	Flush time.Duration
	// About is added to the answer of initialize. Default: none.
	About map[string]any
	// Agents are the kinds of agent whose feeds are taken in, by methods of their names.
	// Default: none.
	Agents []source.Agent
	// Runs is the directory where the runs of agents say that they are alive, each in a
	// directory of its agent's name. Default: none, and nobody knows.
	Runs string
	// Logger hears of notifications that failed. Default: discarded.
	Logger *slog.Logger
}

var discard = slog.New(slog.DiscardHandler)

// quiet is how long the input may bring nothing before it counts as ended, once the
// process was asked to end: what the caller wrote before that is in the pipe.
const quiet = 100 * time.Millisecond

// server is one caller's session.
type server struct {
	cfg Config
	c   *client.Client
	in  *queue
	out *queue

	work     context.Context // of all that must be done, until Drain has passed
	waits    context.Context // of what may be given up when the input ends
	apart    sync.WaitGroup  // what holds nobody up
	shutdown bool            // shutdown was called

	intake                 *agents.Intake          // of an agent's feed, once its first event has come
	intakeAgent, intakeRun string                  // whose it is
	fail                   context.CancelCauseFunc // ends this session: the next one goes on

	// Given to events that have none.
	streamID, correlationID string

	mu   sync.Mutex                    // guards subs
	subs map[string]context.CancelFunc // subscriptions that run
	subN int
}

// Serve answers the requests of In until it ends, shutdown is called, or ctx ends,
// which counts as the end of the input. It then carries out what it has, and returns
// nil when all of it had its answer; an error says how much had not. The caller closes
// In and Out, and what Open opened.
func Serve(ctx context.Context, cfg Config) error {
	if cfg.Drain == 0 {
		cfg.Drain = 30 * time.Second
	}
	if cfg.Flush == 0 {
		cfg.Flush = 2 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = discard
	}
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	waits, endWaits := context.WithCancel(work)
	defer endWaits()
	s := &server{
		cfg: cfg, in: newQueue(), out: newQueue(), work: work, waits: waits,
		subs: map[string]context.CancelFunc{}, correlationID: event.NewID(),
	}
	s.streamID = s.correlationID

	ctx, s.fail = context.WithCancelCause(ctx)
	defer s.fail(nil)

	ended := make(chan struct{}) // the input has, or is as good as
	read := make(chan error, 1)
	go func() {
		err := readLines(work, cfg.In, s.in)
		read <- err
		close(ended)
	}()
	written := make(chan struct{})
	go func() {
		writeLines(cfg.Out, s.out)
		close(written)
	}()
	// The limit begins when nothing more will come, whatever is being waited for then.
	stopLimit := make(chan struct{})
	defer close(stopLimit)
	go func() {
		select {
		case <-ended:
		case <-ctx.Done():
		case <-stopLimit:
			return
		}
		select {
		case <-time.After(cfg.Drain):
			giveUp()
		case <-stopLimit:
		}
	}()

	err := s.serve(ctx)
	if why := context.Cause(ctx); s.intake == nil && why != nil && !errors.Is(why, context.Canceled) {
		err = errors.Join(err, why)
	}
	if s.intake != nil {
		s.intake.Leave()
		err = errors.Join(err, s.intake.End(work))
	}
	endWaits()
	s.apart.Wait()
	giveUp()
	if s.intake != nil {
		s.intake.Wait()
	}
	s.out.end()
	select {
	case <-written:
	case <-time.After(cfg.Flush):
		s.out.drop() // the reader has gone, or has stopped reading
	}
	select {
	case readErr := <-read:
		err = errors.Join(err, readErr)
	default:
	}
	return err
}

// serve carries out the input.
func (s *server) serve(ctx context.Context) error {
	c, err := s.cfg.Open(s.work)
	if err != nil {
		return err
	}
	s.c = c
	for failed := 0; ; {
		line, ok := s.in.take(ctx)
		if !ok && ctx.Err() != nil {
			soon, cancel := context.WithTimeout(s.work, quiet)
			line, ok = s.in.take(soon)
			cancel()
		}
		if s.work.Err() != nil && ok {
			for ; ok; _, ok = s.in.take(s.work) {
				failed++
			}
			return fmt.Errorf("rpc: the log did not answer within %v of the end of the input: %d requests were not carried out", s.cfg.Drain, failed)
		}
		if !ok {
			if s.work.Err() != nil {
				return fmt.Errorf("rpc: the log did not answer within %v of the end of the input: the last request may not be carried out", s.cfg.Drain)
			}
			return nil
		}
		s.line(line)
		if s.shutdown {
			return nil
		}
	}
}

// line carries out one line of input.
func (s *server) line(line []byte) {
	if len(line) == 1 && line[0] == '\n' {
		s.answerError(nullID, &jrpc2.Error{
			Code: jrpc2.InvalidRequest, Message: fmt.Sprintf("the line is longer than %d bytes: nothing was done", MaxLine),
			Data: encode(map[string]any{"error": "line_too_long", "limit": MaxLine}),
		})
		return
	}
	if !json.Valid(line) {
		if id, err := tooDeep(line); err != nil {
			s.answerError(id, toError(err))
			return
		}
		s.answerError(nullID, &jrpc2.Error{Code: jrpc2.ParseError, Message: "the line is not JSON", Data: encode(map[string]any{"error": "not_json"})})
		return
	}
	reqs, err := jrpc2.ParseRequests(line)
	if err != nil || len(reqs) != 1 || reqs[0].Batch {
		s.answerError(nullID, &jrpc2.Error{
			Code: jrpc2.InvalidRequest, Message: "batches are not taken: send one request a line, without waiting for the answers",
			Data: encode(map[string]any{"error": "batch"}),
		})
		return
	}
	s.request(reqs[0])
}

// call is one request that is being carried out.
type call struct {
	ctx    context.Context
	params json.RawMessage
	then   func() // done once the answer is on its way

	later  bool             // the answer comes by finish
	finish func(any, error) // may be called from anywhere, once
}

func (s *server) request(r *jrpc2.ParsedRequest) {
	id := json.RawMessage(r.ID)
	refuse := func(err *jrpc2.Error) {
		if len(id) == 0 {
			s.cfg.Logger.Error("a notification was refused", "method", r.Method, "err", err.Message)
			if r.Error == nil {
				return
			}
			id = nullID
		}
		s.answerError(id, err)
	}
	if r.Error != nil {
		r.Error.Data = encode(map[string]any{"error": "invalid_request"})
		refuse(r.Error)
		return
	}
	m, ok := methods[r.Method]
	if !ok {
		m, ok = s.agentMethod(r.Method)
	}
	if !ok {
		refuse(&jrpc2.Error{Code: jrpc2.MethodNotFound, Message: fmt.Sprintf("there is no method %q: docs/protocol.md lists them", r.Method), Data: encode(map[string]any{"error": "unknown_method"})})
		return
	}
	if m.reads && s.out.full(unreadMost) {
		refuse(fault("unread", fmt.Sprintf("%d bytes of answers wait to be read: read them first", unreadMost), nil))
		return
	}
	ctx := s.work
	if m.waits {
		ctx = s.waits
	}
	finish := func(result any, err error) {
		switch {
		case err != nil && m.waits && ctx.Err() != nil:
			refuse(fault("shutting_down", "the input has ended: ask again in a new session", nil))
		case err != nil:
			refuse(toError(err))
		case len(id) > 0:
			s.answer(id, result)
		}
	}
	do := func() {
		k := &call{ctx: ctx, params: r.Params, finish: finish}
		result, err := m.do(s, k)
		if k.later {
			return
		}
		finish(result, err)
		if k.then != nil && err == nil {
			k.then()
		}
	}
	if s.intake != nil && !m.feed {
		s.intake.Drain(s.work)
	}
	if m.apart {
		s.apart.Go(do)
		return
	}
	do()
}

var nullID = json.RawMessage("null")

func (s *server) answer(id json.RawMessage, result any) {
	s.out.put(line(`{"jsonrpc":"2.0","id":`, id, `,"result":`, encode(result)))
}

func (s *server) answerError(id json.RawMessage, e *jrpc2.Error) {
	s.out.put(line(`{"jsonrpc":"2.0","id":`, id, `,"error":`, encode(e)))
}

func (s *server) notify(method string, params any) {
	s.out.put(line(`{"jsonrpc":"2.0","method":"`, []byte(method), `","params":`, encode(params)))
}

// line composes a message by splicing, so that the bytes of an event stay as they are.
func line(head string, id []byte, middle string, body []byte) []byte {
	b := make([]byte, 0, len(head)+len(id)+len(middle)+len(body)+2)
	b = append(append(append(append(b, head...), id...), middle...), body...)
	return append(b, '}', '\n')
}

// splicer is an answer that holds events. Their bytes are spliced into it: encoding/json
// does not take an event that is nested as deep as earlier versions stored it.
type splicer interface {
	appendJSON(dst []byte) []byte
}

// encode is event.Marshal, and for a splicer its appendJSON. The arguments are types of
// this package, and so it cannot fail.
func encode(v any) json.RawMessage {
	if s, ok := v.(splicer); ok {
		return s.appendJSON(nil)
	}
	b, err := event.Marshal(v)
	if err != nil {
		return json.RawMessage(`{"error":"internal"}`)
	}
	return b
}

// decode reads params strictly: a member that is not known is an error, since it would
// be a wish that nobody hears.
func decode(params json.RawMessage, into any) error {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	if params[0] != '{' {
		return &event.InvalidError{Field: "params", Value: short(string(params)), Rule: "must be an object"}
	}
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		var invalid *event.InvalidError
		if errors.As(err, &invalid) {
			return invalid
		}
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return wrongKind(params, kind)
		}
		return &event.InvalidError{Field: "params", Value: short(string(params)), Rule: "must be what docs/protocol.md says: " + err.Error()}
	}
	return nil
}

func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
