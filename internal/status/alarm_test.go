package status

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"durablestream/client"
)

// A replica that is behind for a moment is no alarm; one that stays behind is.
func TestReplicaAlarms(t *testing.T) {
	t.Parallel()
	look := func(r client.Replica) client.State {
		return client.State{Cluster: "ds", Leader: "n1", Replicas: []client.Replica{{Name: "n1", Leader: true, Current: true}, r}}
	}
	answers := func(string) bool { return false }
	behind, current := look(client.Replica{Name: "n2", Lag: 5}), look(client.Replica{Name: "n2", Current: true})
	require.Empty(t, replicaAlarms(answers, current))
	require.Empty(t, replicaAlarms(answers, behind, current))
	require.Empty(t, replicaAlarms(answers, current, behind))
	gone := func(string) bool { return true }
	names := func(alarms []Alarm) (all []string) {
		for _, a := range alarms {
			all = append(all, a.Name+" "+a.Node)
		}
		return all
	}
	require.Equal(t, []string{AlarmBehind + " n2"}, names(replicaAlarms(answers, behind, behind, behind)))
	require.Equal(t, []string{AlarmOffline + " n2"}, names(replicaAlarms(answers, look(client.Replica{Name: "n2", Offline: true}))))
	require.Equal(t, []string{AlarmOffline + " n2"}, names(replicaAlarms(answers, look(client.Replica{Name: "n2", Seen: time.Minute}))))
	require.Equal(t, []string{AlarmOffline + " n2"}, names(replicaAlarms(func(n string) bool { return n == "n2" }, behind)))
	require.Equal(t, []string{AlarmSilent + " n1", AlarmSilent + " n2"}, names(replicaAlarms(gone, current)))
	require.Equal(t, []string{AlarmLeader + " "}, names(replicaAlarms(answers, client.State{Cluster: "ds"})))
}

// Where an alarm says that no host can start, status does not advise to start one.
func TestStatusAdvisesNoHostThatCannotStart(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := Answer{Dir: "d", Alarms: []Alarm{{Name: AlarmMismatch, Message: "no host can start"}}}
	require.NoError(t, a.Print(&out))
	require.Contains(t, out.String(), "none can start: see the alarm")
	require.NotContains(t, out.String(), "starts one")
}
