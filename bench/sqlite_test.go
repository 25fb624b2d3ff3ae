package bench

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"durablestream/event"
	"durablestream/internal/measure"
	"durablestream/internal/wire"
)

// lite is the neighbour that a user would pick instead: one row an event in SQLite,
// in a write-ahead log that is synced at each commit. One process, one connection.
type lite struct {
	db     *sql.DB
	insert *sql.Stmt
	body   []byte
}

func newLite(b testing.TB) *lite {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "log.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	db.SetMaxOpenConns(1)
	var mode, sync string
	_, err = db.ExecContext(b.Context(), `CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
		stream TEXT NOT NULL, body BLOB NOT NULL)`)
	require.NoError(b, err)
	require.NoError(b, db.QueryRowContext(b.Context(), `PRAGMA journal_mode`).Scan(&mode))
	require.NoError(b, db.QueryRowContext(b.Context(), `PRAGMA synchronous`).Scan(&sync))
	require.Equal(b, [2]string{"wal", "2"}, [2]string{mode, sync})
	l := &lite{db: db}
	l.insert, err = db.PrepareContext(b.Context(), `INSERT INTO events (id, type, stream, body) VALUES (?, ?, ?, ?)`)
	require.NoError(b, err)
	e := measure.Event()
	e.ID, e.CorrelationID, e.Timestamp = event.NewID(), event.NewID(), event.Now()
	l.body = wire.Encode(event.Recorded{Event: e}).Data
	return l
}

func (l *lite) row(ctx context.Context, s *sql.Stmt) error {
	e := measure.Event()
	_, err := s.ExecContext(ctx, event.NewID(), e.Type, e.StreamID, l.body)
	return err
}

// Append is one row in a transaction of its own.
func (l *lite) Append(ctx context.Context) error { return l.row(ctx, l.insert) }

// Batch is n rows in one transaction.
func (l *lite) Batch(ctx context.Context, n int) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	s := tx.StmtContext(ctx, l.insert)
	for range n {
		if err := l.row(ctx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}
