package broker

import (
	"context"

	"github.com/nats-io/nats-server/v2/server"

	"durablestream/internal/address"
	"durablestream/internal/diskwatch"
	"durablestream/internal/roles"
	"durablestream/internal/room"
	"durablestream/internal/wire"
)

// Varz is what the server says of itself.
func (b *Broker) Varz() (*server.Varz, error) { return b.server.Varz(nil) }

// WatchDisk replaces the watch over the real disk by one that asks free for the bytes.
func (b *Broker) WatchDisk(floor int64, free func() (int64, error)) {
	b.watchAgain(floor, func(host *diskwatch.Broker) {
		host.See = func() (room.Room, error) {
			n, err := free()
			return room.Room{Free: n, Inodes: -1}, err
		}
	})
}

func (b *Broker) watchAgain(floor int64, change func(host *diskwatch.Broker)) {
	b.disk.Stop()
	host := b.watched()
	host.Floor = floor
	change(&host)
	b.disk, _ = diskwatch.Start(host)
}

// Room is what a test lets the watch see.
type Room struct {
	Free, Inodes, Files int64
	ReadOnly            bool
	Probe               error // of making a file of a block's size
}

// WatchRoom replaces the watch over the real disk by one over what see returns.
func (b *Broker) WatchRoom(floor int64, see func() Room) {
	b.watchAgain(floor, func(host *diskwatch.Broker) {
		host.See = func() (room.Room, error) {
			r := see()
			return room.Room{Free: r.Free, Inodes: r.Inodes, Files: r.Files, ReadOnly: r.ReadOnly}, nil
		}
		host.Probe = func(bool) error { return see().Probe }
	})
}

// Healthy is what the engine says of the Log.
func (b *Broker) Healthy() *server.HealthStatus { return b.health() }

// RestartEngine does what the disk watch does to a stream that is stuck.
func (b *Broker) RestartEngine() { b.restartEngine(b.Disk().Full) }

// Refuse turns the refusal of appends on or off, as the disk watch does.
func (b *Broker) Refuse(on bool) error {
	return b.refuse(on, diskwatch.State{Lack: room.LackSpace}.Refusal(""))
}

// LimitStore lets the engine store so many bytes more until it is restarted: a batch that exceeds that is stored in part.
func (b *Broker) LimitStore(more int64) error {
	_, err := b.js.Stream(context.Background(), wire.LogName)
	if err != nil {
		return err
	}
	acc, err := b.logAccount()
	if err != nil {
		return err
	}
	return acc.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": {
		MaxMemory: -1, MaxStore: int64(acc.JetStreamUsage().Store) + more, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}})
}

// KeyOf is a key of a list as Config takes it.
func KeyOf(k roles.Key) Key { return Key{k.Name, string(k.Role), k.Public} }

// Address is what the address file says.
func (b *Broker) Address() address.Address { return b.address() }
