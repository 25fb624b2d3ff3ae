package blocks

import (
	"errors"
	"io/fs"
	"path/filepath"

	"durablestream/internal/paths"
)

// OwnFiles makes a copy of each file in dir, but for those in directories of the name except, that
// is a hard link to another directory's file and may be written to. Full blocks are never
// written again, and stay shared.
func OwnFiles(dir, except string) (copied int, err error) {
	newest := map[string]bool{} // block of its directory
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.IsDir() && e.Name() == except:
			return fs.SkipDir
		case e.IsDir():
			list, err := List(path)
			if len(list) > 0 {
				newest[list[len(list)-1].Path] = true
			}
			return err
		case !e.Type().IsRegular(), filepath.Ext(path) == ".blk" && !newest[path]:
			return nil
		}
		changed, err := paths.Own(path)
		if changed {
			copied++
		}
		return err
	})
	return copied, err
}
