package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// row is one line of the table. A figure is named "Benchmark unit"; "= 50" is a bound
// that stands in the neighbour's place.
type row struct {
	what      string
	ours      string
	neighbour string // what stands beside it
	theirs    string
	faster    bool // the ratio is theirs by ours: how many times faster we are
	target    target
}

// target is a bound of the ratio; the zero value is none.
type target struct {
	least, most float64
}

func (t target) String() string {
	switch {
	case t.least > 0:
		return fmt.Sprintf("at least %g", t.least)
	case t.most > 0:
		return fmt.Sprintf("at most %g", t.most)
	}
	return ""
}

func (t target) met(ratio float64) string {
	switch {
	case t == target{}:
		return ""
	case t.least > 0 && ratio >= t.least, t.most > 0 && ratio <= t.most:
		return "yes"
	}
	return "**no**"
}

func atMost(v float64) target  { return target{most: v} }
func atLeast(v float64) target { return target{least: v} }

var none target

// rows are the table; large is the largest log that was measured.
func rows(large string) []row {
	small, big := "Log/10000/", "Log/"+large+"/"
	return []row{
		{"append, one at a time, p50", "AppendOne ours-p50-µs", "bare publish", "AppendOne bare-p50-µs", false, atMost(1.10)},
		{"", "AppendOne ours-p50-µs", "SQLite, a row a transaction", "AppendOne sqlite-p50-µs", false, atMost(1.5)},
		{"bare publish, one at a time, p50", "AppendOne bare-p50-µs", "SQLite, a row a transaction", "AppendOne sqlite-p50-µs", false, none},
		{"append, one at a time, p50", "AppendOne ours-p50-µs", "write + fsync of a file", "AppendOne file-p50-µs", false, none},
		{"8 in flight", "AppendInFlight/8 ours/s", "bare publishes", "AppendInFlight/8 bare/s", false, none},
		{"64 in flight", "AppendInFlight/64 ours/s", "bare publishes", "AppendInFlight/64 bare/s", false, none},
		{"512 in flight through one client", "AppendInFlight/512 ours/s", "bare publishes", "AppendInFlight/512 bare/s", false, atLeast(2)},
		{"a lone appender beside those 512, p50", "AppendBesideMany ours-p50-µs", "beside 512 bare publishes", "AppendBesideMany bare-p50-µs", false, atMost(2)},
		{"8 processes, one at a time each", "AppendProcesses ours/s", "bare publishes", "AppendProcesses bare/s", false, none},
		{"batches of 100", "AppendBatch/100 ours/s", "bare atomic batch", "AppendBatch/100 bare/s", false, none},
		{"batches of 999", "AppendBatch/999 ours/s", "bare atomic batch", "AppendBatch/999 bare/s", false, atLeast(0.95)},
		{"", "AppendBatch/999 ours/s", "SQLite, 999 rows a transaction", "AppendBatch/999 sqlite/s", false, none},
		{"three replicas, one at a time, p50", "Cluster/1 ours-p50-µs", "bare publish", "Cluster/1 bare-p50-µs", false, none},
		{"three replicas, 64 in flight", "Cluster/64 ours/s", "bare publishes", "Cluster/64 bare/s", false, none},
		{"three replicas, 512 in flight", "Cluster/512 ours/s", "bare publishes", "Cluster/512 bare/s", false, none},
		{"a captured session of OpenCode, messages stored", "OpenCode ours/s", "bare publishes of the same, one at a time", "OpenCode bare/s", false, none},
		{"", "OpenCode ours/s", "bare atomic batches of the same, 500 each", "OpenCode batch/s", false, none},
		{"import, new events", "Import new/s", "the same again", "Import again/s", false, none},
		{"`dstream append` as a process", "Command append-p50-µs", "append, one at a time", "AppendOne ours-p50-µs", false, none},
		{"subscribe, catch-up", "CatchUp ours/s", "bare ordered consumer", "CatchUp bare/s", false, atLeast(0.9)},
		{"", "CatchUp ours/s", "parsing the JSONL", "CatchUp jsonl/s", false, none},
		{"append to handler in another process, p50", "Live ours-p50-µs", "the append alone", "Live append-p50-µs", false, atMost(2)},
		{"mirror, catch-up", "CatchUp mirror/s", "subscribe, catch-up", "CatchUp ours/s", false, atLeast(0.8)},
		{"mirror's lag at 2,000 events/s, p99", "MirrorLag lag-p99-ms", "50 ms", "= 50", false, atMost(1)},
		{"", "MirrorLag offered/s", "2,000 events/s", "= 2000", false, atLeast(0.95)},
		{"resume in " + large, big + "query resume-ms", "parsing the JSONL", big + "query jsonl-ms", true, atLeast(20)},
		{"", big + "query resume-ms", "bare consumer of the same messages", big + "query resume-bare-ms", false, none},
		{"", big + "query resume-ms", "resume in 10000", small + "query resume-ms", false, none},
		{"query of 1,000 events of one stream in " + large, big + "query stream-ms", "parsing the JSONL", big + "query jsonl-ms", true, atLeast(20)},
		{"", big + "query stream-ms", "bare consumer of the same events", big + "query stream-bare-ms", false, none},
		{"query by type", big + "query type-ms", "parsing the JSONL", big + "query jsonl-ms", true, none},
		{"newest 50", big + "query newest-ms", "parsing the JSONL", big + "query jsonl-ms", true, none},
		{"query by actor", big + "query actor-ms", "parsing the JSONL", big + "query jsonl-ms", true, none},
		{"query by correlation", big + "query correlation-ms", "parsing the JSONL", big + "query jsonl-ms", true, none},
		{"query by time", big + "query time-ms", "parsing the JSONL", big + "query jsonl-ms", true, none},
		{"append in " + large + ", p50", big + "append ours-p50-µs", "in 10000", small + "append ours-p50-µs", false, atMost(1.2)},
		{"an OpenCode event on disk, in blocks that are full", "Disk plain-log-B/event", "its JSON", "Disk body-B/event", false, none},
		{"with S2 compression", "Disk S2-log-B/event", "without", "Disk plain-log-B/event", false, none},
		{"append with S2, p50", "Disk S2-p50-µs", "without", "Disk plain-p50-µs", false, none},
		{"read with S2", "Disk S2-read/s", "without", "Disk plain-read/s", false, none},
		{"memory of the host with an empty log", "Command idle-MB", "after appends", "Command after-MB", false, none},
		{"memory of the host, " + large, big + "memory used-MB", "10000", small + "memory used-MB", false, atMost(4)},
	}
}

// grid are the figures of logs of each size, in this order.
var grid = []struct{ what, ref string }{
	{"`dstream serve` until it hosts", "boot boot-p50-µs"},
	{"`dstream append` without a host", "boot command-p50-µs"},
	{"memory of the host, just started", "boot booted-MB"},
	{"memory of the host, after all of this", "memory used-MB"},
	{"append, p50", "append ours-p50-µs"},
	{"query of one stream, 1,000 events", "query stream-ms"},
	{"query of one type, 1,000 events", "query type-ms"},
	{"query of one actor, 1,000 events", "query actor-ms"},
	{"query of one correlation, 1,000 events", "query correlation-ms"},
	{"query by time, 1,000 events", "query time-ms"},
	{"query of the newest 50", "query newest-ms"},
	{"resume, 2,000 events that matter", "query resume-ms"},
	{"`dstream resume` as a process", "query process-ms"},
	{"parsing the JSONL", "query jsonl-ms"},
	{"an index of all of it, made anew", "index index-ms"},
	{"the log on disk with its index, an event", "sizes log-B/event"},
	{"the index alone, an event", "sizes index-B/event"},
	{"the mirror on disk, an event", "sizes mirror-B/event"},
}

// tables are the table, and the figures by size.
func (f figures) tables() (string, error) {
	var sizes []string
	for _, n := range []string{"10000", "100000", "1000000"} {
		if f["Log/"+n+"/query"] != nil {
			sizes = append(sizes, n)
		}
	}
	if len(sizes) == 0 {
		return "", errors.New("there are no figures of BenchmarkLog")
	}
	var b strings.Builder
	b.WriteString("| what | ours | neighbour | neighbour's | ratio | target | met |\n|---|---|---|---|---|---|---|\n")
	var missing []string
	for _, r := range rows(sizes[len(sizes)-1]) {
		line, err := f.row(r)
		if err != nil {
			missing = append(missing, err.Error())
		}
		b.WriteString(line)
	}
	fmt.Fprintf(&b, "\n| in a log of | %s |\n|---|%s\n", strings.Join(spell(sizes), " | "), strings.Repeat("---|", len(sizes)))
	for _, g := range grid {
		var cells []string
		for _, n := range sizes {
			ref := "Log/" + n + "/" + g.ref
			if _, _, ok := f.at(ref); !ok {
				missing = append(missing, ref)
			}
			cells = append(cells, f.say(ref))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", g.what, strings.Join(cells, " | "))
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("figures are missing: %s", strings.Join(missing, ", "))
	}
	return b.String(), nil
}

func (f figures) row(r row) (string, error) {
	ours, _, ok := f.at(r.ours)
	if !ok {
		return "", errors.New(r.ours)
	}
	said := ""
	theirs, err := strconv.ParseFloat(strings.TrimPrefix(r.theirs, "= "), 64)
	if err != nil {
		if theirs, _, ok = f.at(r.theirs); !ok {
			return "", errors.New(r.theirs)
		}
		said = f.say(r.theirs)
	}
	ratio, words := ours/theirs, ""
	if r.faster {
		ratio, words = theirs/ours, " times faster"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f%s | %s | %s |\n", spellIn(r.what), f.say(r.ours), spellIn(r.neighbour), said,
		ratio, words, r.target, r.target.met(ratio)), nil
}

// spell writes sizes with their commas.
func spell(sizes []string) []string {
	var out []string
	for _, s := range sizes {
		out = append(out, spellIn(s))
	}
	return out
}

var commas = strings.NewReplacer("1000000", "1,000,000", "100000", "100,000", "10000", "10,000")

func spellIn(s string) string { return commas.Replace(s) }
