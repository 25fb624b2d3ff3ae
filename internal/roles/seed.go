package roles

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Make makes a key and leaves its seed in a new file of mode 0600. A file that is
// there is never overwritten: the error then wraps fs.ErrExist.
func Make(name string, role Role, seedFile string) (Key, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return Key{}, err
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return Key{}, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return Key{}, err
	}
	k := Key{Name: name, Role: role, Public: public}
	if err := Check(seedFile, []Key{k}); err != nil {
		return Key{}, err
	}
	if err := os.MkdirAll(filepath.Dir(seedFile), 0o700); err != nil {
		return Key{}, err
	}
	f, err := os.OpenFile(seedFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, fmt.Errorf("cannot write the seed: %w", err)
	}
	_, err = f.Write(append(seed, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Key{}, fmt.Errorf("cannot write the seed: %w", err)
	}
	return k, nil
}

// ReadSeed reads the key pair of a seed file. A file that others than its owner may
// read is refused: whoever read it can do what its key may do.
func ReadSeed(path string) (nkeys.KeyPair, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the key file %s can be read by others (mode %04o): run chmod 600 on it, or make a new key if others may have read it", path, mode)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %w", err)
	}
	defer clear(b)
	pair, err := nkeys.FromSeed(bytes.TrimSpace(b))
	if err != nil {
		return nil, fmt.Errorf("%s holds no seed of an nkey (SU…): make one with dstream keys make", path)
	}
	if public, err := pair.PublicKey(); err != nil || !nkeys.IsValidPublicUserKey(public) {
		pair.Wipe()
		return nil, fmt.Errorf("%s holds the seed of an nkey that is no user's (SU…): make one with dstream keys make", path)
	}
	return pair, nil
}
