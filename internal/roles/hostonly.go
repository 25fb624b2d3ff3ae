package roles

import (
	"slices"

	"durablestream/internal/wire"
)

// JoinedUser is the name that a host without keys gives to who joins it with the token of
// its address file. A client finds it in the server's answer to UserInfo.
const JoinedUser = "joined"

// HostOnly are the requests that only a host's own connections may make of the stream that
// is the Log. Two of them delete it, although it denies deletion and purge: DELETE as a
// whole, and UPDATE by a limit such as max_age, which the engine applies at once. What a
// restore needs of them the host does, at wire.RestoreSubject.
func HostOnly() []string {
	var out []string
	for _, request := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE"} {
		out = append(out, api+".STREAM."+request+"."+wire.LogName)
	}
	return out
}

// mayAll reports permissions that withhold nothing, or no more than what is the host's.
func (p Permissions) mayAll() bool {
	hosts := HostOnly()
	return slices.Contains(p.Publish, ">") && !slices.ContainsFunc(p.Deny, func(s string) bool { return !slices.Contains(hosts, s) })
}
