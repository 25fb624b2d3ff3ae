package broker

import (
	"net"
	"os"
	"sync"
	"time"

	"durablestream/internal/address"
)

// advertiser keeps the address file what it must be while this broker runs. It has
// the lock, so no other address is right: somebody who clears the directory, or an
// old copy that is put back, must not hide a host that nobody can replace.
type advertiser struct {
	once sync.Once // of the start
	stop sync.Once
	quit chan struct{}
	done chan struct{} // nil before the first Advertise
	mine address.Address
}

// advertiseEvery is how soon an address file that was removed is there again.
const advertiseEvery = 250 * time.Millisecond

// Advertise writes the address file: from here on others can join, until Stop.
func (b *Broker) Advertise() error {
	path := AddressPath(b.cfg.Dir)
	mine := b.address()
	if err := address.Write(path, mine); err != nil {
		return err
	}
	b.telling.End()
	b.ads.once.Do(func() {
		b.ads.mine = mine
		b.ads.quit, b.ads.done = make(chan struct{}), make(chan struct{})
		go b.keepAdvertised(path)
	})
	return nil
}

func (b *Broker) keepAdvertised(path string) {
	defer close(b.ads.done)
	tick := time.NewTicker(advertiseEvery)
	defer tick.Stop()
	mine := b.ads.mine
	for {
		select {
		case <-b.ads.quit:
			return
		case <-tick.C:
		}
		if !b.present() {
			b.evict(b.evictedError())
			return
		}
		if a, err := address.ReadOwn(path); err == nil && a == mine {
			continue
		}
		if err := address.Write(path, mine); err != nil {
			b.cfg.Logger.Warn("cannot put the address file back", "path", path, "err", err)
		}
	}
}

// withdraw takes the address away. It may be called more than once.
func (b *Broker) withdraw() error {
	if b.ads.done == nil {
		return nil
	}
	b.ads.stop.Do(func() { close(b.ads.quit) })
	<-b.ads.done
	return address.Remove(AddressPath(b.cfg.Dir), b.ads.mine)
}

// prove begins to answer who asks whether this broker hosts its directory.
func (b *Broker) prove() (err error) {
	about := func() (address.Answer, bool) {
		return address.Answer{URL: b.server.ClientURL(), ServerID: b.server.ID(), Log: b.Log(), PID: os.Getpid()}, b.present()
	}
	end := b.cfg.End
	if end == nil {
		end = func() {}
	}
	b.prover, err = address.Prove(pathOf(b.store)+"/..", about, end)
	return err
}

// Dial connects to this broker within this process, and gives the token to connect
// with.
func (b *Broker) Dial() (net.Conn, string, error) {
	conn, err := b.server.InProcessConn()
	return conn, b.token, err
}
