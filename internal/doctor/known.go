package doctor

import (
	"fmt"
	"slices"
	"strings"

	"durablestream/event"
	"durablestream/internal/blocks"
	"durablestream/internal/console"
	"durablestream/internal/wire"
)

// knowledge is what a mirror tells a repair of the store.
type knowledge struct {
	s          seen // where the mirror is foreign, nothing comes from it
	acceptLoss bool
}

// record is what stood at a position.
func (k knowledge) record(seq event.Sequence) (blocks.Record, bool) {
	m, ok := k.s.mirror.Messages[seq]
	ok = ok && k.s.foreign == nil && (k.acceptLoss || !k.s.mirror.Unproven[seq])
	if !ok && k.acceptLoss {
		m, ok = wire.EncodeGuard(wire.GuardSubject(event.GuardVoid, seq.String()), []byte("{}")), true
	}
	if !ok {
		return blocks.Record{}, false
	}
	return blocks.Record{Subject: m.Subject, Header: headerBytes(m), Data: m.Data}, true
}

func (k knowledge) body(seq event.Sequence) []byte {
	if m := k.s.mirror.Messages[seq]; m != nil {
		return m.Data
	}
	return nil
}

// lost says why nothing was repaired.
func (k knowledge) lost(lost []wire.Range) error {
	where := fmt.Sprintf("which ends at %d", k.s.mirror.Last)
	if k.s.mirror.Problem != nil {
		where += " and is damaged itself"
	}
	unproven := 0
	for seq := range k.s.mirror.Unproven {
		if slices.ContainsFunc(lost, func(r wire.Range) bool { return r.From <= seq && seq <= r.To }) {
			unproven++
		}
	}
	if unproven > 0 {
		return fmt.Errorf("position %s is neither in the store nor, as far as its chain proves it, in the mirror, %s; "+
			"--accept-loss takes from it the %s that nothing proves, gives up the others, and repairs the rest", console.List(lost), where, console.Count(unproven, "position"))
	}
	return fmt.Errorf("position %s is neither in the store nor in the mirror, %s; --accept-loss gives these positions up and repairs the rest", console.List(lost), where)
}

// words say how positions came back.
func (k knowledge) words(done []blocks.Repaired) string {
	how := map[string]int{}
	var voids, unproven, given []wire.Range
	for _, r := range done {
		known := k.s.mirror.Messages[r.Seq] != nil && k.s.foreign == nil
		switch {
		case r.How == blocks.Voided && known:
			voids = addTo(voids, r.Seq)
		case r.How == blocks.Voided:
			given = addTo(given, r.Seq)
		case r.How == blocks.FromMirror && k.s.mirror.Unproven[r.Seq]:
			unproven = addTo(unproven, r.Seq)
		default:
			how[r.How]++
		}
	}
	var parts []string
	for _, name := range []string{blocks.Corrected, blocks.FromCopy, blocks.FromMirror} {
		if how[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", how[name], name))
		}
	}
	if n := total(unproven); n > 0 {
		parts = append(parts, fmt.Sprintf("%d from lines of the mirror that nothing proves (%s)", n, console.List(unproven)))
	}
	if n := total(voids); n > 0 {
		parts = append(parts, fmt.Sprintf("%d filled, which were no events: what lease or barrier was there nobody knows (%s)", n, console.List(voids)))
	}
	words := fmt.Sprintf("%s brought back: %s", console.Count(uint64(len(done))-total(given), "position"), strings.Join(parts, ", "))
	if len(parts) == 0 {
		words = "no position was brought back"
	}
	if n := total(given); n > 0 {
		words += fmt.Sprintf("; %s given up, which --accept-loss allowed: what stood there is lost (%s)", console.Count(n, "position"), console.List(given))
	}
	return words
}

func addTo(rs []wire.Range, seq event.Sequence) []wire.Range {
	if n := len(rs); n > 0 && rs[n-1].To+1 == seq {
		rs[n-1].To = seq
		return rs
	}
	return append(rs, wire.Range{From: seq, To: seq})
}

func total(rs []wire.Range) (n uint64) {
	for _, r := range rs {
		n += r.Count()
	}
	return n
}
