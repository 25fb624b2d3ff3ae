package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"durablestream/internal/engine"
)

// TestConformance holds all that this package knows against the nats-server that go.mod
// names. It must pass before a version enters the list of the known ones.
func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("version", testVersion)
	t.Run("defaults", testDefaults)
	t.Run("source", testSource)
	t.Run("files", testFiles)
	t.Run("compressed block", testCompressed)
	t.Run("deleted sequences", testDeleted)
	t.Run("codes", testCodes)
	t.Run("provoked codes", testProvoked)
}

func testVersion(t *testing.T) {
	require.NoError(t, engine.Check(server.VERSION), "hold the new version against this test, then add it to the known ones")
	require.Error(t, engine.Check("2.99.0"))
	require.Error(t, engine.Check(""))
}

// testDefaults reads what the server fills into its options.
func testDefaults(t *testing.T) {
	opts := &server.Options{DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	_, err := server.NewServer(opts)
	require.NoError(t, err)
	require.EqualValues(t, engine.MostConsumers, opts.JetStreamLimits.DefaultMaxConsumers)
	require.EqualValues(t, engine.MostRequests, opts.JetStreamRequestQueueLimit)
	require.EqualValues(t, engine.MostPending, opts.MaxPending)
	require.EqualValues(t, engine.MostControlLine, opts.MaxControlLine)
	require.EqualValues(t, engine.SyncInterval, opts.SyncInterval)
	require.EqualValues(t, engine.MostPulls, server.JSWaitQueueDefaultMax)
	require.EqualValues(t, engine.MostUnacknowledged, server.JsDefaultMaxAckPending)
	require.EqualValues(t, engine.MostName, server.JSMaxNameLen)
	require.EqualValues(t, engine.MostDescription, server.JSMaxDescriptionLen)
	require.EqualValues(t, engine.MostMetadata, server.JSMaxMetadataLen)
	require.Equal(t, engine.StoreDir, server.JetStreamStoreDir)
	require.Equal(t, engine.ConfigFile, server.JetStreamMetaFile)
	require.Equal(t, engine.ConfigSum, server.JetStreamMetaFileSum)
}

// testSource reads constants that the server neither exports nor shows.
func testSource(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	require.NoError(t, err)
	src := source{t, filepath.Join(strings.TrimSpace(string(out)), "server")}
	for name, c := range map[string]struct {
		file string
		want any
	}{
		"streamDefaultMaxQueueMsgs":                    {"stream.go", engine.MostWaiting},
		"streamDefaultMaxQueueBytes":                   {"stream.go", engine.MostWaitingBytes},
		"streamDefaultMaxAtomicBatchInflightPerStream": {"stream.go", engine.BatchesPerStream},
		"streamDefaultMaxAtomicBatchInflightTotal":     {"stream.go", engine.BatchesTotal},
		"streamDefaultMaxAtomicBatchSize":              {"stream.go", engine.BatchSize},
		"streamDefaultMaxBatchTimeout":                 {"stream.go", engine.BatchTimeout},
		"maxAllowedResponses":                          {"stream.go", engine.MostMultiLast},
		"minElectionTimeoutDefault":                    {"raft.go", engine.ElectionMin},
		"maxElectionTimeoutDefault":                    {"raft.go", engine.ElectionMax},
		"hbIntervalDefault":                            {"raft.go", engine.Heartbeat},
		"rlBadThresh":                                  {"filestore.go", engine.MostRecord},
		"defaultLargeBlockSize":                        {"filestore.go", engine.BlockSize},
		"msgHdrSize":                                   {"filestore.go", engine.RecordHead},
		"checksumSize":                                 {"filestore.go", engine.SumSize},
		"hbit":                                         {"filestore.go", engine.HeaderBit},
		"ebit":                                         {"filestore.go", uint64(engine.DeletedBits) &^ (1 << 62)},
		"tbit":                                         {"filestore.go", uint64(engine.DeletedBits) &^ (1 << 63)},
		"batchesDir":                                   {"filestore.go", engine.BatchesDir},
		"consumerDir":                                  {"filestore.go", engine.ConsumerDir},
		"defaultMetaGroupName":                         {"jetstream_cluster.go", engine.MetaGroup},
		"defaultStoreDirName":                          {"jetstream_cluster.go", engine.RaftDir},
		"peerStateFile":                                {"raft.go", engine.PeersFile},
		"termVoteFile":                                 {"raft.go", engine.TermFile},
		"snapshotsDir":                                 {"raft.go", engine.SnapshotsDir},
		"snapFileT":                                    {"raft.go", engine.SnapshotName},
		"sysHashLen":                                   {"events.go", engine.NodeIDSize},
	} {
		require.Equal(t, fmt.Sprint(number(c.want)), src.constant(c.file, name), name)
	}
	require.Regexp(t, `assignStreamOp entryOp = iota
	assignConsumerOp
	removeStreamOp
(	\w+\n|	//.*\n){8,}	updateStreamOp\n`, src.text("jetstream_cluster.go"), "OpAssignStream, OpRemoveStream, OpUpdateStream; a rebuilt meta group in package broker shows the rest")
	require.Equal(t, 10*engine.Heartbeat, engine.LostQuorum)
	require.Contains(t, src.text("raft.go"), "lostQuorumIntervalDefault       = hbIntervalDefault * 10")
	require.Contains(t, src.text("jetstream_cluster.go"), fmt.Sprintf("time.AfterFunc(%d*time.Second, js.checkForOrphans)", engine.OrphanAfter/time.Second))
	require.Contains(t, src.text("jetstream_cluster.go"), `fmt.Sprintf("`+"%s-R%d%s-%s"+`"`, "the names of raft groups")
	require.Contains(t, src.text("jetstream_cluster.go"), `groupNameForStream(peers []string, storage StorageType) string {
	return groupName("`+strings.TrimSuffix(engine.StreamGroup, "-")+`"`)
}

func number(v any) any {
	if d, ok := v.(time.Duration); ok {
		return int64(d)
	}
	return v
}

// source is the directory of the server's package.
type source struct {
	t   *testing.T
	dir string
}

func (s source) text(file string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, file))
	require.NoError(s.t, err)
	return string(b)
}

// constant evaluates a constant of simple terms.
func (s source) constant(file, name string) string {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, filepath.Join(s.dir, file), nil, parser.SkipObjectResolution)
	require.NoError(s.t, err)
	value := ""
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, id := range spec.Names {
			if id.Name == name && value == "" && i < len(spec.Values) {
				from, to := set.Position(spec.Values[i].Pos()).Offset, set.Position(spec.Values[i].End()).Offset
				value = s.text(file)[from:to]
			}
		}
		return true
	})
	require.NotEmpty(s.t, value, "%s has no %s", file, name)
	pkg := types.NewPackage("x", "x")
	for unit, d := range map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Millisecond": time.Millisecond} {
		value = strings.ReplaceAll(value, "time."+unit, strconv.FormatInt(int64(d), 10))
	}
	tv, err := types.Eval(set, pkg, token.NoPos, value)
	require.NoError(s.t, err, value)
	return strings.Trim(tv.Value.ExactString(), `"`)
}

// running runs a server on dir while f uses it.
func running(t *testing.T, dir string, opts server.Options, f func(*server.Server, jetstream.JetStream)) {
	t.Helper()
	opts.DontListen, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = true, true, dir, true, true
	opts.JetStreamMaxStore = 1 << 40
	s, err := server.NewServer(&opts)
	require.NoError(t, err)
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	require.True(t, s.ReadyForConnections(20*time.Second))
	nc, err := nats.Connect("", nats.InProcessServer(s))
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	f(s, js)
}

const streamName = "S"

func config() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: streamName, Subjects: []string{"s.>"}, Storage: jetstream.FileStorage, AllowDirect: true, AllowAtomicPublish: true}
}

func publish(t *testing.T, js jetstream.JetStream, n, size int) {
	t.Helper()
	for i := range n {
		m := nats.NewMsg(fmt.Sprintf("s.%d", i%7))
		m.Data = bytes.Repeat([]byte{'x'}, size)
		if i%2 == 0 {
			m.Header.Set("A", "b")
		}
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
}

// testFiles looks at the files of a store, byte by byte.
func testFiles(t *testing.T) {
	dir, n := t.TempDir(), 25
	running(t, dir, server.Options{}, func(_ *server.Server, js jetstream.JetStream) {
		_, err := js.CreateStream(t.Context(), config())
		require.NoError(t, err)
		publish(t, js, n, 100)
	})
	msgs := engine.MessagesPath(dir, server.DEFAULT_GLOBAL_ACCOUNT, streamName)
	raw, err := os.ReadFile(filepath.Join(msgs, engine.StateFile))
	require.NoError(t, err)
	state, err := engine.ReadState(streamName, raw)
	require.NoError(t, err)
	block, err := os.ReadFile(filepath.Join(msgs, "1"+engine.BlockSuffix))
	require.NoError(t, err)
	require.EqualValues(t, n, state.Messages)
	require.EqualValues(t, 1, state.First)
	require.EqualValues(t, n, state.Last)
	require.EqualValues(t, len(block), state.Bytes)
	require.EqualValues(t, 1, state.Newest)
	require.Equal(t, []engine.StateBlock{{Index: 1, Bytes: uint64(len(block)), First: 1, Last: state.Last}}, state.Blocks)
	require.Equal(t, block[len(block)-engine.SumSize:], state.Sum[:])
	for i := range raw {
		raw[i] ^= 0x10
		_, err := engine.ReadState(streamName, raw)
		require.ErrorIs(t, err, engine.ErrState, "byte %d", i)
		raw[i] ^= 0x10
	}
	_, err = engine.ReadState("OTHER", raw)
	require.ErrorIs(t, err, engine.ErrState)
	_, err = engine.ReadState(streamName, nil)
	require.ErrorIs(t, err, engine.ErrState)

	seq := uint64(0)
	for at := 0; at < len(block); seq++ {
		head := block[at:]
		length := binary.LittleEndian.Uint32(head)
		require.Equal(t, seq%2 == 0, length&engine.HeaderBit != 0)
		require.Equal(t, seq+1, binary.LittleEndian.Uint64(head[4:]))
		subject := int(binary.LittleEndian.Uint16(head[20:]))
		require.Equal(t, fmt.Sprintf("s.%d", seq%7), string(head[engine.RecordHead:engine.RecordHead+subject]))
		at += int(length &^ engine.HeaderBit)
	}
	require.EqualValues(t, n, seq)

	cfg, err := os.ReadFile(filepath.Join(filepath.Dir(msgs), engine.ConfigFile))
	require.NoError(t, err)
	var stored struct {
		Created time.Time
		jetstream.StreamConfig
	}
	require.NoError(t, json.Unmarshal(cfg, &stored))
	require.Equal(t, streamName, stored.Name)
	require.False(t, stored.Created.IsZero())
	sum, err := os.ReadFile(filepath.Join(filepath.Dir(msgs), engine.ConfigSum))
	require.NoError(t, err)
	require.Equal(t, string(sum), engine.SumOf(streamName, cfg))
	require.DirExists(t, filepath.Join(filepath.Dir(msgs), engine.ConsumerDir))
}

// testCompressed looks at a block that the server has compressed.
func testCompressed(t *testing.T) {
	dir := t.TempDir()
	running(t, dir, server.Options{}, func(_ *server.Server, js jetstream.JetStream) {
		cfg := config()
		cfg.Compression = jetstream.S2Compression
		_, err := js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
		publish(t, js, 12, engine.BlockSize/10)
	})
	first := filepath.Join(engine.MessagesPath(dir, server.DEFAULT_GLOBAL_ACCOUNT, streamName), "1"+engine.BlockSuffix)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(first)
		return err == nil && bytes.HasPrefix(b, engine.Compressed())
	}, 10*time.Second, 10*time.Millisecond)
}

// testDeleted reads the state of a stream with deleted Sequences.
func testDeleted(t *testing.T) {
	dir := t.TempDir()
	running(t, dir, server.Options{}, func(_ *server.Server, js jetstream.JetStream) {
		s, err := js.CreateStream(t.Context(), config())
		require.NoError(t, err)
		publish(t, js, 25, 100)
		require.NoError(t, s.DeleteMsg(t.Context(), 7))
		require.NoError(t, s.DeleteMsg(t.Context(), 20))
	})
	raw, err := os.ReadFile(filepath.Join(engine.MessagesPath(dir, server.DEFAULT_GLOBAL_ACCOUNT, streamName), engine.StateFile))
	require.NoError(t, err)
	state, err := engine.ReadState(streamName, raw)
	require.NoError(t, err)
	require.EqualValues(t, 23, state.Messages)
	require.EqualValues(t, 25, state.Last)
	require.EqualValues(t, 2, state.Blocks[0].Deleted)
}

func testCodes(t *testing.T) {
	for have, want := range map[jetstream.ErrorCode]server.ErrorIdentifier{
		engine.CodeDiskFull:          server.JSAccountResourcesExceededErr,
		engine.CodeNoPeers:           server.JSClusterNoPeersErrF,
		engine.CodeNoResources:       server.JSInsufficientResourcesErr,
		engine.CodeMaxConsumers:      server.JSMaximumConsumersLimitErr,
		engine.CodeStorageFull:       server.JSStorageResourcesExceededErr,
		engine.CodeTooLarge:          server.JSStreamMessageExceedsMaximumErr,
		engine.CodeWrongLast:         server.JSStreamWrongLastSequenceErrF,
		engine.CodeStoreFailed:       server.JSStreamStoreFailedF,
		engine.CodeDuplicateInFlight: server.JSStreamDuplicateMessageConflict,
		engine.CodeWrongLastInFlight: server.JSStreamWrongLastSequenceConstantErr,
		engine.CodeTooManyWaiting:    server.JSStreamTooManyRequests,
		engine.CodeBatchIncomplete:   server.JSAtomicPublishIncompleteBatchErr,
		engine.CodeBatchTooLarge:     server.JSAtomicPublishTooLargeBatchErrF,
		engine.CodeBatchDuplicate:    server.JSAtomicPublishContainsDuplicateMessageErr,
		engine.CodeBatchInFlight:     server.JSAtomicPublishTooManyInflight,
	} {
		require.EqualValues(t, want, have)
	}
}

// testProvoked makes the server answer with the codes that one server gives at will.
func testProvoked(t *testing.T) {
	dir := t.TempDir()
	opts := server.Options{MaxPayload: engine.MostRecord, MaxPending: 2 * engine.MostRecord, JetStreamLimits: server.JSLimitOpts{MaxBatchSize: 3, MaxBatchInflightPerStream: 1, DefaultMaxConsumers: 2}}
	running(t, dir, opts, func(s *server.Server, js jetstream.JetStream) {
		stream, err := js.CreateStream(t.Context(), config())
		require.NoError(t, err)
		publish(t, js, 3, 10)

		_, err = js.Publish(t.Context(), "s.1", nil, jetstream.WithExpectLastSequence(99))
		refused(t, engine.CodeWrongLast, err)

		_, err = js.Publish(t.Context(), "s.1", make([]byte, engine.MostRecord-20))
		refused(t, engine.CodeStoreFailed, err)

		for range 2 {
			_, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{})
			require.NoError(t, err)
		}
		_, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{})
		refused(t, engine.CodeMaxConsumers, err)

		require.NoError(t, member(t, js, "a", 1, nil), "it stays open")
		refused(t, engine.CodeBatchInFlight, member(t, js, "b", 1, nil))
		refused(t, engine.CodeBatchIncomplete, member(t, js, "a", 3, nats.Header{"Nats-Batch-Commit": {"1"}}))
		for i := range 3 {
			require.NoError(t, member(t, js, "c", i+1, nil))
		}
		refused(t, engine.CodeBatchTooLarge, member(t, js, "c", 4, nil))
		require.NoError(t, member(t, js, "d", 1, nats.Header{"Nats-Msg-Id": {"one"}}))
		refused(t, engine.CodeBatchDuplicate, member(t, js, "d", 2, nats.Header{"Nats-Msg-Id": {"one"}, "Nats-Batch-Commit": {"1"}}))

		cfg := config()
		cfg.MaxMsgSize = 10
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)
		_, err = js.Publish(t.Context(), "s.1", make([]byte, 11))
		refused(t, engine.CodeTooLarge, err)

		acc, err := s.LookupAccount(server.DEFAULT_GLOBAL_ACCOUNT)
		require.NoError(t, err)
		require.NoError(t, acc.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": {MaxMemory: 1, MaxStore: 1, MaxStreams: -1, MaxConsumers: -1}}))
		_, err = js.Publish(t.Context(), "s.1", nil)
		refused(t, engine.CodeDiskFull, err)
	})
}

func refused(t *testing.T, want jetstream.ErrorCode, err error) {
	t.Helper()
	var api *jetstream.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, want, api.ErrorCode, api.Error())
}

// member sends one message of a batch and returns what the server answers.
func member(t *testing.T, js jetstream.JetStream, batch string, n int, header nats.Header) error {
	t.Helper()
	m := nats.NewMsg("s.1")
	for k, v := range header {
		m.Header[k] = v
	}
	m.Header.Set("Nats-Batch-Id", batch)
	m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(n))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, err := js.Conn().RequestMsgWithContext(ctx, m)
	require.NoError(t, err)
	if len(answer.Data) == 0 {
		return nil
	}
	var ack struct{ Error *jetstream.APIError }
	require.NoError(t, json.Unmarshal(answer.Data, &ack))
	if ack.Error == nil {
		return nil
	}
	return ack.Error
}
