// Package redirect leads what is published to the Log elsewhere inside a host's server, where
// the host answers it, and back to the Log.
package redirect

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"durablestream/internal/wire"
)

// To is the prefix of the subjects to which appends go.
type To string

const (
	// Log is the Log itself.
	Log To = ""
	// Held is where nobody answers, so that a client knows that nothing was stored, and tries
	// again.
	Held To = "dstream.held."
	// Refused is where the disk watch answers.
	Refused To = "dstream.refused."
	// Lost is where the host answers that the engine has not opened the Log.
	Lost To = "dstream.lost."
)

// Appends are the appends that reach one server. The zero value leads to the Log. Calls may
// overlap.
type Appends struct {
	leading sync.Mutex // guards to, and is held while the server takes other options
	to      To

	answering sync.Mutex                     // guards the map
	answers   map[To]*atomic.Pointer[[]byte] // of the prefixes that are subscribed to
}

// Lead leads what is published to the Log in acc to the same subjects behind the prefix to. An
// exchange of the server's options by Reload keeps it so.
func (a *Appends) Lead(acc *server.Account, to To) error {
	a.leading.Lock()
	defer a.leading.Unlock()
	a.to = to
	if to != Log {
		return leadTo(acc, to)
	}
	acc.RemoveMapping(wire.AllEvents)
	acc.RemoveMapping(wire.AllGuards)
	return nil
}

func leadTo(acc *server.Account, to To) (err error) {
	for _, subject := range []string{wire.AllEvents, wire.AllGuards} {
		if err == nil {
			err = acc.AddMapping(subject, string(to)+subject)
		}
	}
	return err
}

// Reload gives s other options. The mappings of their accounts replace those that are there: the
// account of that name leads appends to where they are led now.
func (a *Appends) Reload(s *server.Server, opts *server.Options, name string) error {
	a.leading.Lock()
	defer a.leading.Unlock()
	for _, acc := range opts.Accounts {
		if acc.Name == name && a.to != Log {
			if err := leadTo(acc, a.to); err != nil {
				return err
			}
		}
	}
	return s.ReloadOptions(opts)
}

// Answer answers with body what is led to a prefix, as long as nc is open; nil: it gives no
// answer any more.
func (a *Appends) Answer(nc *nats.Conn, to To, body []byte) error {
	a.answering.Lock()
	defer a.answering.Unlock()
	if is := a.answers[to]; is != nil {
		is.Store(&body)
		return nil
	}
	if body == nil {
		return nil
	}
	is := new(atomic.Pointer[[]byte])
	is.Store(&body)
	sub, err := nc.Subscribe(string(to)+">", func(m *nats.Msg) {
		if body := *is.Load(); m.Reply != "" && body != nil {
			// An error is a lost connection, which the asker notices itself.
			_ = m.Respond(body)
		}
	})
	if err != nil {
		return err
	}
	if err := nc.FlushTimeout(time.Second); err != nil {
		return errors.Join(err, sub.Unsubscribe())
	}
	if a.answers == nil {
		a.answers = map[To]*atomic.Pointer[[]byte]{}
	}
	a.answers[to] = is
	return nil
}
