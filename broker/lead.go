package broker

import (
	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/wire"
)

// lead leads what is published to the Log to the same subjects behind the prefix to, or,
// where that is "", to the Log again. An exchange of keys keeps it so.
func (b *Broker) lead(acc *server.Account, to string) error {
	b.leading.Lock()
	defer b.leading.Unlock()
	b.led = to
	if to != "" {
		return leadTo(acc, to)
	}
	acc.RemoveMapping(wire.AllEvents)
	acc.RemoveMapping(wire.AllGuards)
	return nil
}

func leadTo(acc *server.Account, to string) (err error) {
	for _, subject := range []string{wire.AllEvents, wire.AllGuards} {
		if err == nil {
			err = acc.AddMapping(subject, to+subject)
		}
	}
	return err
}
