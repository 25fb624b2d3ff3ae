package blocks

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/minio/highwayhash"
)

// Raw reads the records of block index of any stream of the engine, such as a raft log,
// out of the file's bytes b. It stops before the first record that is damaged, where the
// engine stops too, and reports whether it has read all of b. The parts of a record are b's.
func Raw(stream string, index uint32, b []byte, record func(Record) error) (whole bool, err error) {
	k := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	sum, err := highwayhash.New64(k[:])
	if err != nil {
		return false, err
	}
	for len(b) > 0 {
		l, why := head(b)
		if why != "" || summed(sum, b, l) != binary.LittleEndian.Uint64(b[l.record-sumLen:]) {
			return false, nil
		}
		if r := cut(b, l); !r.tombstone() {
			if err := record(r); err != nil {
				return false, err
			}
		}
		b = b[l.record:]
	}
	return true, nil
}
