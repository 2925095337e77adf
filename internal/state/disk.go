package state

import (
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A disk is what can fail.
type disk interface {
	write(f *os.File, text string) (int, error)
	sync(f *os.File) error
	rename(from, to string) error
	syncFolder(path string) error
	isAt(f *os.File, path string) bool
}

type osDisk struct{}

func (osDisk) write(f *os.File, text string) (int, error) { return f.WriteString(text) }
func (osDisk) sync(f *os.File) error                      { return f.Sync() }
func (osDisk) rename(from, to string) error               { return os.Rename(from, to) }

// syncFolder makes a new name in a file's folder durable.
func (osDisk) syncFolder(path string) error {
	if runtime.GOOS == "windows" { // which does that by itself, and opens no folders
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// isAt tells whether an open file is the one at a path.
func (osDisk) isAt(f *os.File, path string) bool {
	own, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(own, at)
}

func now() uint64 { return uint64(time.Now().UnixMicro()) }
