// Package plugin holds the plugin for OpenCode: one file, which 'make plugin' makes of
// plugin/opencode/plugin.
package plugin

import _ "embed"

// Source is the plugin, JavaScript for the Bun inside OpenCode.
//
//go:embed durable-stream.js
var Source []byte

// Name is the name that the file has in OpenCode's directory of plugins.
const Name = "durable-stream.js"
