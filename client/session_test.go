package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/brokertest"
	"durablestream/projection"
)

func session(t *testing.T, c *client.Client, id, parent string) {
	t.Helper()
	_, err := c.Append(t.Context(), event.Event{Type: event.LifecycleSessionCreated, StreamID: id, Actor: "agent",
		Payload: payload(t, map[string]string{"parentID": parent, "title": "T"})})
	require.NoError(t, err)
}

// family makes root, its child and its grandchild with a question and work in each,
// and a session beside them.
func family(t *testing.T, c *client.Client) (intents, checkpoints map[string]string) {
	t.Helper()
	intents, checkpoints = map[string]string{}, map[string]string{}
	parent := ""
	for _, id := range []string{"root", "kid", "grandkid"} {
		session(t, c, id, parent)
		parent = id
	}
	session(t, c, "beside", "")
	for _, id := range []string{"root", "kid", "grandkid", "beside"} {
		intents[id] = create(t, c, func(s *client.IntentSpec) { s.StreamID = id }).ID
		checkpoints[id] = brokertest.Ask(t, c, func(q *client.CheckpointRequest) { q.StreamID = id }).ID
	}
	claim(t, c, intents["kid"], "worker", time.Minute) // that somebody works on it stops nothing
	return intents, checkpoints
}

func TestEndOfASession(t *testing.T) {
	t.Parallel()
	for _, how := range []string{event.LifecycleSessionAborted, event.LifecycleSessionDeleted} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			h := brokertest.Start(t)
			c := h.Client
			intents, checkpoints := family(t, c)
			end := c.Sessions().Abort
			if how == event.LifecycleSessionDeleted {
				end = c.Sessions().Delete
			}
			done, err := end(t.Context(), "root", "ann", "enough")
			require.NoError(t, err)
			order := []string{"grandkid", "kid", "root"}
			require.Equal(t, order, done.Sessions, "children first")
			for i, s := range order {
				require.Equal(t, intents[s], done.Intents[i])
				require.Equal(t, checkpoints[s], done.Checkpoints[i])
			}
			h.Restart(t)
			resume, err := c.Resume(t.Context())
			require.NoError(t, err)
			require.Len(t, resume.ActiveIntents, 1)
			require.Equal(t, intents["beside"], resume.ActiveIntents[0].ID)
			require.Len(t, resume.PendingCheckpoints, 1)
			require.Equal(t, checkpoints["beside"], resume.PendingCheckpoints[0].ID)
			require.Len(t, resume.OpenSessions, 1)
			require.Equal(t, "beside", resume.OpenSessions[0].ID)
			for _, s := range order {
				i, err := c.Intents().Get(t.Context(), intents[s])
				require.NoError(t, err)
				require.Equal(t, projection.Aborted, i.Status)
				require.Equal(t, "enough", i.Reason)
				cp, err := c.Checkpoints().Get(t.Context(), checkpoints[s])
				require.NoError(t, err)
				require.Equal(t, projection.Cancelled, cp.Status)
				require.Equal(t, "ann", cp.Decision.By)
			}
			// Once more, there is nothing left to end but the one named.
			done, err = end(t.Context(), "root", "ann", "again")
			require.NoError(t, err)
			require.Equal(t, []string{"root"}, done.Sessions)
			require.Empty(t, done.Intents)
			require.Empty(t, done.Checkpoints)
		})
	}
}

// An agent ends its own session: its questions are left to the sweeper.
func TestEndOfOnesOwnSession(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	session(t, h.Client, "s", "")
	cp := brokertest.Ask(t, h.Client, func(q *client.CheckpointRequest) { q.StreamID = "s" })
	done, err := h.Client.Sessions().Abort(t.Context(), "s", "agent", "lost")
	require.NoError(t, err)
	require.Equal(t, []string{cp.ID}, done.Checkpoints)
	pending, err := h.Client.Checkpoints().List(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	require.True(t, pending[0].CancelRequested)
	require.Equal(t, "lost", pending[0].CancelReason)
}

func TestEndOfAnOddSession(t *testing.T) {
	t.Parallel()
	h := brokertest.Start(t)
	done, err := h.Client.Sessions().Delete(t.Context(), "never seen", "ann", "")
	require.NoError(t, err)
	require.Equal(t, []string{"never seen"}, done.Sessions)
	_, err = h.Client.Sessions().Abort(t.Context(), "", "ann", "")
	_, ok := errorIs[*event.InvalidError](err)
	require.True(t, ok, "%v", err)

	session(t, h.Client, "a", "b")
	session(t, h.Client, "b", "a")
	done, err = h.Client.Sessions().Abort(t.Context(), "a", "ann", "")
	require.NoError(t, err)
	require.Equal(t, []string{"b", "a"}, done.Sessions, "a cycle ends too")
}
