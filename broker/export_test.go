package broker

import (
	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/wire"
)

// Varz is what the server says of itself.
func (b *Broker) Varz() (*server.Varz, error) { return b.server.Varz(nil) }

// WatchDisk replaces the watch over the real disk by one that asks free.
func (b *Broker) WatchDisk(floor int64, free func() (int64, error)) {
	b.disk.stop()
	b.disk = startWatch(b, floor, free)
}

// Healthy is what the engine says of the Log.
func (b *Broker) Healthy() *server.HealthStatus {
	return b.server.Healthz(&server.HealthzOptions{Account: b.cfg.account(), Stream: wire.LogName})
}

// RestartEngine does what the disk watch does to a stream that is stuck.
func (b *Broker) RestartEngine() { b.disk.restartEngine() }

// Refuse turns the refusal of appends on or off, as the disk watch does.
func (b *Broker) Refuse(on bool) error { return b.disk.refuse(on) }
