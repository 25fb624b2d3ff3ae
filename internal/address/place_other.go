//go:build !linux && !darwin

package address

import "os"

// whereNow is the path of a directory that is open; "": this system does not tell.
func whereNow(*os.File) string { return "" }
