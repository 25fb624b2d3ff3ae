// Package redirect leads appends inside a host's server: to the Log, or to subjects on which the
// host answers that it takes none.
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
	// Log leads appends to the Log.
	Log To = ""
	// Held leads appends to subjects without a reader: the client learns at once that nothing
	// was stored, and retries.
	Held To = "dstream.held."
	// Refused leads appends to the answer of the disk watch.
	Refused To = "dstream.refused."
	// Lost leads appends to the host's answer that the engine has not opened the Log.
	Lost To = "dstream.lost."
)

// Appends leads the appends that reach one server. The zero value leads them to the Log. Calls
// may overlap.
type Appends struct {
	leading sync.Mutex // guards to; held during Reload
	to      To

	answering sync.Mutex                     // guards the map
	answers   map[To]*atomic.Pointer[[]byte] // by prefix; each has a subscription
}

// Lead leads the appends of acc to their subjects behind the prefix to. They stay there also
// when Reload replaces the server's options.
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

// Reload replaces the options of s, and with them the mappings of its accounts. In the account
// with the given name, Reload keeps the mapping of the last Lead.
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

// Answer answers each append that is led to a prefix with body, as long as nc is open. With a
// nil body it stops answering.
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
			// An error is a lost connection, which the client notices itself.
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
