package main

import (
	"errors"

	"github.com/spf13/pflag"

	"durablestream/internal/monitor"
	"durablestream/internal/status"
)

// monitorFlags say where a monitor listens, and how others call it.
type monitorFlags struct {
	listen string
	names  []string
}

func (m *monitorFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&m.listen, "monitor", "", "HOST:PORT to answer /healthz and /metrics at, such as "+defaultMonitor+" (default: nowhere)")
	fs.StringSliceVar(&m.names, "monitor-name", nil, "a name by which others call the monitor, beside localhost, the HOST of --monitor, this machine's name, --name and those in --tls-cert (repeatable)")
}

// watch starts the monitor, with what the command knows of the process.
func (m *monitorFlags) watch(cfg status.WatchConfig) (*status.Watched, error) {
	cfg.Listen, cfg.Names = m.listen, m.names
	cfg.Engine = dependency(buildInfo(), "github.com/nats-io/nats-server/v2")
	w, err := status.Watch(cfg)
	var wrong *monitor.ListenError
	if errors.As(err, &wrong) {
		return w, usage(err)
	}
	return w, err
}

// defaultMonitor is where NATS servers have their monitoring too.
const defaultMonitor = "127.0.0.1:8222"
