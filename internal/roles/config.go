package roles

import (
	"fmt"
	"strings"
)

// Accounts gives the part of a nats-server configuration that makes the accounts,
// their keys and what they share. The embedded server reads this same text; there,
// secret lets in the host's own connections, which are made within its process, and
// nobody else is granted what is HostOnly. Other servers have no host, so that an admin
// does it. gate is the name of the server's gate, to which what agents and operators publish
// is led; "": it has none.
func Accounts(keys []Key, secret, gate string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "system_account: %s\n", SystemAccount)
	b.WriteString("accounts {\n")
	fmt.Fprintf(&b, "  %s {}\n\n", SystemAccount)
	fmt.Fprintf(&b, "  # The Log. Its JetStream is reached from elsewhere only through these exports.\n")
	fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n    exports: [\n", LogAccount)
	for _, s := range services(Operator, gate) { // the wider list; agents import less of it
		answer := ""
		if s.streamed {
			answer = ", response_type: stream"
		}
		accounts := OperatorAccount
		if sharedWithAgents(s, gate) {
			accounts = AgentAccount + ", " + OperatorAccount
		}
		fmt.Fprintf(&b, "      {service: %q, accounts: [%s]%s}\n", s.subject, accounts, answer)
	}
	b.WriteString("    ]\n")
	b.WriteString("    users: [\n")
	if secret != "" {
		fmt.Fprintf(&b, "      {user: %s, password: %q, allowed_connection_types: [IN_PROCESS]}\n", HostUser, secret)
	}
	writeUsers(&b, keys, Admin, secret != "")
	b.WriteString("  }\n")
	for _, r := range []Role{Agent, Operator} {
		fmt.Fprintf(&b, "\n  %s {\n    imports: [\n", r.Account())
		for _, s := range services(r, gate) {
			to := ""
			if s.from != s.subject {
				to = fmt.Sprintf(", to: %q", s.from)
			}
			fmt.Fprintf(&b, "      {service: {account: %s, subject: %q}%s}\n", LogAccount, s.subject, to)
		}
		b.WriteString("    ]\n")
		b.WriteString("    users: [\n")
		writeUsers(&b, keys, r, secret != "")
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func sharedWithAgents(s service, gate string) bool {
	for _, t := range services(Agent, gate) {
		if t == s {
			return true
		}
	}
	return false
}

// HostUser is the name under which a host connects to the broker in its process.
const HostUser = "host"

func writeUsers(b *strings.Builder, keys []Key, r Role, hosted bool) {
	for _, k := range keys {
		if k.Role != r {
			continue
		}
		p := Of(k)
		if hosted && r == Admin {
			p.Deny = append(p.Deny, HostOnly()...)
		}
		fmt.Fprintf(b, "      # %s\n      {nkey: %s, permissions: {\n        publish: {allow: %s%s}\n        subscribe: {allow: %s}\n      }}\n",
			k.Name, k.Public, quoted(p.Publish), denied(p.Deny), quoted(p.Subscribe))
	}
	b.WriteString("    ]\n")
}

func denied(subjects []string) string {
	if len(subjects) == 0 {
		return ""
	}
	return ", deny: " + quoted(subjects)
}

func quoted(subjects []string) string {
	var out []string
	for _, s := range subjects {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// ServerConfig is what a nats-server of version 2.15 needs in its configuration file
// to hold a Log for these keys.
func ServerConfig(keys []Key) string {
	return `# What a nats-server needs to hold a Log of Durable Stream. Made by
# dstream keys server-config: make it again when the keys change, and reload the server.

# port: 4222

jetstream {
  # store_dir: /var/lib/nats
  # Acknowledged means on disk. Without this line a power cut loses events.
  sync_interval: always
}

# Keys without TLS say who connects, and hide nothing. On anything but loopback:
# tls {
#   cert_file: server.pem
#   key_file: server.key
#   min_version: "1.2"
# }
# A cluster's routes want certificates on both sides: see docs/roles.md.
# Join no gateways or leaf nodes to it: the roles were not tried against them.

` + Accounts(keys, "", "")
}
