package broker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"durablestream/broker"
	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/address"
	"durablestream/internal/roles"
)

// keyring makes a key of each role; the seeds are in files named for the role.
func keyring(t *testing.T) (keys []broker.Key, seeds string) {
	t.Helper()
	seeds = t.TempDir()
	for _, r := range roles.Roles {
		k, err := roles.Make(string(r), r, filepath.Join(seeds, string(r)))
		require.NoError(t, err)
		keys = append(keys, broker.KeyOf(k))
	}
	return keys, seeds
}

// startKeyed starts a host with a key of each role.
func startKeyed(t *testing.T, cfg broker.Config) (b *broker.Broker, as func(roles.Role) *client.Client) {
	t.Helper()
	keys, seeds := keyring(t)
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Keys = keys
	b, err := start(t, cfg)
	require.NoError(t, err)
	require.NoError(t, b.Advertise())
	return b, func(r roles.Role) *client.Client {
		t.Helper()
		target := client.Target{AddressFile: broker.AddressPath(cfg.Dir)}
		if cfg.TLS.CA != "" {
			target.TLS.CA = cfg.TLS.CA
		}
		return connectAs(t, target, filepath.Join(seeds, string(r)))
	}
}

func connectAs(t *testing.T, target client.Target, seed string) *client.Client {
	t.Helper()
	target.NKey = seed
	nc, err := client.Connect(t.Context(), target)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// A key that is shown where nobody asks for one is a mistake that is told.
func TestKeyForAHostWithoutKeys(t *testing.T) {
	t.Parallel()
	_, seeds := keyring(t)
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, b.Advertise())
	_, err = client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir), NKey: filepath.Join(seeds, "agent")})
	require.ErrorContains(t, err, "hosted without keys: leave --nkey")
	require.True(t, client.Hopeless(err))
	require.ErrorContains(t, b.SetKeys(nil), "keys are exchanged for keys")
}

func TestKeysSayWhoMayConnect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, as := startKeyed(t, broker.Config{Dir: dir})
	a, err := address.Read(broker.AddressPath(dir))
	require.NoError(t, err)
	require.Empty(t, a.Token, "whoever can read the file has no right by that")
	raw, err := os.ReadFile(broker.AddressPath(dir))
	require.NoError(t, err)
	_, secret, err := b.Dial()
	require.NoError(t, err)
	require.NotContains(t, string(raw), secret)

	_, err = client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir)})
	require.ErrorIs(t, err, client.ErrKeyNeeded)
	require.ErrorContains(t, err, "--nkey")
	_, err = nats.Connect(a.URL, nats.UserInfo(roles.HostUser, secret))
	require.ErrorIs(t, err, nats.ErrAuthorization, "the host's own way in is for connections in its process")
	_, err = nats.Connect(a.URL, nats.Token(secret))
	require.ErrorIs(t, err, nats.ErrAuthorization)

	stranger := filepath.Join(t.TempDir(), "stranger")
	k, err := roles.Make("stranger", roles.Admin, stranger)
	require.NoError(t, err)
	begun := time.Now()
	_, err = client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir), NKey: stranger})
	require.ErrorIs(t, err, client.ErrKeyUnknown)
	require.ErrorContains(t, err, k.Public)
	require.ErrorContains(t, err, "dstream keys")
	require.Less(t, time.Since(begun), 2*time.Second)
	require.NoError(t, os.Chmod(stranger, 0o644))
	_, err = client.Connect(t.Context(), client.Target{AddressFile: broker.AddressPath(dir), NKey: stranger})
	require.ErrorContains(t, err, "can be read by others (mode 0644)")

	for _, r := range roles.Roles {
		c := as(r)
		require.EqualValues(t, r, c.Admin().Role())
		rec, err := c.Append(t.Context(), newEvent(`"`+string(r)+`"`))
		require.NoError(t, err)
		var last event.Recorded
		for got, err := range c.Query(t.Context(), event.Filter{}) {
			require.NoError(t, err)
			last = got
		}
		require.Equal(t, rec, last)
	}
}

// A log that was hosted without keys comes along when keys are given to it, and is
// not hosted without them again.
func TestKeysForALogThatHadNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir})
	require.NoError(t, err)
	nc, err := b.Connect()
	require.NoError(t, err)
	c, err := client.New(t.Context(), nc, client.Config{})
	require.NoError(t, err)
	require.Equal(t, client.RoleNone, c.Admin().Role())
	rec, err := c.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	c.Close()
	nc.Close()
	require.NoError(t, b.Stop(t.Context()))

	b, as := startKeyed(t, broker.Config{Dir: dir})
	r, err := as(roles.Agent).Append(t.Context(), rec.Event)
	require.NoError(t, err)
	require.Equal(t, rec, r, "the same event again: the log is the old one")
	require.NoError(t, b.Stop(t.Context()))
	_, err = start(t, broker.Config{Dir: dir})
	require.ErrorContains(t, err, "is hosted with keys: only 'dstream serve --keys FILE' hosts it")
}

// What watches the disk reaches the Log also in its own account, and refuses what
// comes from another.
func TestNearlyFullDiskRefusesEveryRole(t *testing.T) {
	t.Parallel()
	b, as := startKeyed(t, broker.Config{DiskFloor: -1})
	clients := map[roles.Role]*client.Client{}
	for _, r := range roles.Roles {
		clients[r] = as(r)
		_, err := clients[r].Append(t.Context(), newEvent("1"))
		require.NoError(t, err)
	}
	require.NoError(t, b.Refuse(true))
	for r, c := range clients {
		_, err := c.Append(context.Background(), newEvent("1"))
		require.ErrorIs(t, err, client.ErrDiskFull, r)
		_, err = c.AppendBatch(context.Background(), []event.Event{newEvent("1"), newEvent("2")})
		require.ErrorIs(t, err, client.ErrDiskFull, r)
		pos, err := c.Position(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, pos)
	}
	require.NoError(t, b.Refuse(false))
	require.Equal(t, "ok", b.Healthy().Status)
	b.RestartEngine()
	require.Equal(t, "ok", b.Healthy().Status)
	for r, c := range clients {
		_, err := c.AppendBatch(t.Context(), []event.Event{newEvent("1"), newEvent("2")})
		require.NoError(t, err, r)
	}
}

func TestListeningWantsKeysAndTLS(t *testing.T) {
	t.Parallel()
	keys, _ := keyring(t)
	for missing, cfg := range map[string]broker.Config{
		"needs keys and TLS": {},
		"needs TLS":          {Keys: keys},
		"needs keys":         {TLS: broker.TLSConfig{Cert: "x", Key: "x"}},
	} {
		cfg.Dir, cfg.Listen = t.TempDir(), "192.0.2.1:0"
		_, err := start(t, cfg)
		require.ErrorContains(t, err, missing)
		require.ErrorContains(t, err, "--insecure")
	}
	_, err := start(t, broker.Config{Dir: t.TempDir(), TLS: broker.TLSConfig{Cert: "cert.pem"}})
	require.ErrorContains(t, err, "give both")
	_, err = start(t, broker.Config{Dir: t.TempDir(), TLS: broker.TLSConfig{Cert: "cert.pem", Key: "key.pem"}})
	require.ErrorContains(t, err, "cert.pem")
	_, err = start(t, broker.Config{Dir: t.TempDir(), Keys: []broker.Key{{Name: "x", Role: "owner", Public: keys[0].Public}}})
	require.ErrorContains(t, err, `role "owner" must be agent, operator or admin`)
}

// A refusal of appends outlives an exchange of keys.
func TestKeysAreExchangedWhileAppendsAreRefused(t *testing.T) {
	t.Parallel()
	keys, seeds := keyring(t)
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir, Keys: keys[:2], DiskFloor: -1})
	require.NoError(t, err)
	require.NoError(t, b.Advertise())
	agent := connectAs(t, client.Target{AddressFile: broker.AddressPath(dir)}, filepath.Join(seeds, string(roles.Agent)))
	_, err = agent.Append(t.Context(), newEvent("1"))
	require.NoError(t, err)
	require.NoError(t, b.Refuse(true))
	for range 2 {
		require.NoError(t, b.SetKeys(keys))
		_, err = agent.Append(t.Context(), newEvent("2"))
		require.ErrorIs(t, err, client.ErrDiskFull)
	}
	require.NoError(t, b.Refuse(false))
	require.NoError(t, b.SetKeys(keys))
	_, err = agent.Append(t.Context(), newEvent("2"))
	require.NoError(t, err)
}

// Keys come and go while the host runs, and work that is under way goes on.
func TestKeysAreExchanged(t *testing.T) {
	t.Parallel()
	keys, seeds := keyring(t)
	dir := t.TempDir()
	b, err := start(t, broker.Config{Dir: dir, Keys: keys[:2], DiskFloor: -1})
	require.NoError(t, err)
	require.NoError(t, b.Advertise())
	target := client.Target{AddressFile: broker.AddressPath(dir)}
	agent := connectAs(t, target, filepath.Join(seeds, string(roles.Agent)))
	operator := connectAs(t, target, filepath.Join(seeds, string(roles.Operator)))
	done, quit := make(chan error, 1), make(chan struct{})
	go func() {
		for {
			if _, err := agent.Append(context.Background(), newEvent("1")); err != nil {
				done <- err
				return
			}
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
		}
	}()
	withAdmin := target
	withAdmin.NKey = filepath.Join(seeds, string(roles.Admin))
	_, err = client.Connect(t.Context(), withAdmin)
	require.ErrorIs(t, err, client.ErrKeyUnknown)
	require.NoError(t, b.SetKeys(keys))
	admin := connectAs(t, target, withAdmin.NKey)
	_, err = admin.Append(t.Context(), newEvent("2"))
	require.NoError(t, err)
	_, err = operator.Append(t.Context(), newEvent("3"))
	require.NoError(t, err)
	require.NoError(t, b.SetKeys([]broker.Key{keys[0], keys[2]}))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = operator.Append(ctx, newEvent("4"))
	require.Error(t, err, "its key is gone")
	require.Error(t, b.SetKeys([]broker.Key{{Name: "x"}}))
	close(quit)
	require.NoError(t, <-done)
	require.NoError(t, b.Refuse(true)) // what reaches into the account still does
	_, err = agent.Append(t.Context(), newEvent("5"))
	require.ErrorIs(t, err, client.ErrDiskFull)
	require.NoError(t, b.Refuse(false))
	pos, err := admin.Position(t.Context())
	require.NoError(t, err)
	n := 0
	for _, err := range agent.Query(t.Context(), event.Filter{}) {
		require.NoError(t, err)
		n++
	}
	require.EqualValues(t, pos, n)
	require.Equal(t, "ok", b.Healthy().Status)
}
