//go:build !linux

package mirror

import "os"

// letGo has no equal here.
func letGo(*os.File, int64, int64) {}
