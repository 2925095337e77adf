// Package lockfile is a file that one process at a time has: one of a server's
// that says that something beside it, such as a socket, is taken.
//
// Its invariant: a File that Acquire has returned is locked, and is the file at
// its path for as long as nobody but its holder removes that. So of two that
// ask for a path one is refused, whatever others do at that moment that come
// and go there. The lock ends with the process, the file may stay behind, and
// the next one takes it over.
//
// It is not for locks between users: who may write to the folder can take the
// file away. A file that another user owns is refused, and what is ours is
// made inaccessible to others, since whoever can open a file can lock it.
//
// What the file says is the caller's matter.
package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ErrLocked is why Acquire fails when somebody else has the file.
var ErrLocked = errors.New("another process has locked it")

// tries is how often a file may be gone by the time it is locked. Each time
// means that another process has had it; so many are a file system that cannot
// tell whether two files are the same.
const tries = 1000

// File is a file that we have.
type File struct {
	*os.File
	path string
	once sync.Once
}

// Acquire opens or makes the file at a path, and locks it. It takes nothing
// that is not a file of our own, and asks check, before it changes anything,
// whether the file's content may be lost. Its errors speak of "it": the caller
// names the path.
//
// Where Works is false it locks nothing.
func Acquire(path string, check func(*os.File) error) (*File, error) {
	path, err := filepath.Abs(path) // the process may go to another folder
	if err != nil {
		return nil, err
	}
	for range tries {
		f, err := open(path, check)
		if err != nil {
			return nil, err
		}
		if err = lock(f); err == nil {
			var there bool
			if there, err = isAt(f, path); there {
				return &File{File: f, path: path}, nil
			}
		}
		// Either way it was locked in vain: its holder has removed it since.
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("it is another file each time that it is looked at")
}

func open(path string, check func(*os.File) error) (*os.File, error) {
	// Before it is opened, which is an event for some devices and pipes; and
	// once more after, since it may be another one by then.
	if info, err := os.Lstat(path); err == nil {
		if err := Usable(info); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open it: %w", Bare(err))
	}
	info, err := f.Stat()
	if err == nil {
		err = Usable(info)
	}
	if err == nil {
		err = check(f)
	}
	if err == nil && Works && info.Mode().Perm() != 0o600 { // the umask may have taken our own bits, too
		err = f.Chmod(0o600)
	}
	if err != nil {
		f.Close()
		return nil, Bare(err)
	}
	return f, nil
}

// Usable tells why a file cannot be one of ours: what it is, or whose.
func Usable(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if uid, foreign := Owner(info); foreign {
		return fmt.Errorf("it belongs to another user (%d): if no server of theirs is running, remove it", uid)
	}
	return nil
}

// Empty is a check of content for files that do nothing but be locked.
func Empty(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		err = errors.New("there is something in it")
	}
	return err
}

// isAt tells whether an open file is the one at a path.
func isAt(f *os.File, path string) (bool, error) {
	own, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(own, now), Bare(err)
}

// Bare strips an error about a file of the path, for messages that have it already.
func Bare(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return e.Err
	}
	if e := new(os.LinkError); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// There tells whether the file is still the one at its path: somebody may have removed
// it, and then another process can have one of its own.
func (f *File) There() bool {
	there, err := isAt(f.File, f.path)
	return there && err == nil
}

// Remove removes the file, unless another one has its place, and then unlocks
// it: in the other order somebody might have it by now. More than one call
// does no harm, nor does a File that is nil.
func (f *File) Remove() {
	if f == nil {
		return
	}
	f.once.Do(func() {
		if there, _ := isAt(f.File, f.path); there {
			os.Remove(f.path)
		}
		f.Close()
	})
}
