// Command release makes what people install: archives, packages for Debian and
// RPM systems, their checksums, and for each target what is in it (an SBOM).
//
// The same source makes the same bytes, on whatever day, in whatever folder and
// by whomever: times are the commit's, paths and names of machines are left out,
// and what is listed is sorted. `make release`, `make deb` and `make rpm` are
// this program.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func main() {
	var j job
	flag.StringVar(&j.root, "root", "../..", "the repository")
	flag.StringVar(&j.out, "out", "", "where all goes, in the place of an earlier release (bin/release of the repository)")
	flag.StringVar(&j.revision, "revision", "", "the commit, if it cannot be asked of git")
	flag.StringVar(&j.release, "release", "1", "the packages' own version, behind that of lockd")
	targets := flag.String("targets", here.String(), "SYSTEM/PROCESSOR, with commas between; all: those of a release")
	formats := flag.String("formats", "archive,deb,rpm,sbom", "what to make, with commas between")
	flag.Parse()
	if err := j.parse(*targets, *formats, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(2)
	}
	if err := j.run(); err != nil {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

// A target is a system and a processor, as Go names them.
type target struct{ system, processor string }

func (t target) String() string { return t.system + "/" + t.processor }

// exe is how a program's name ends there.
func (t target) exe() string {
	if t.system == "windows" {
		return ".exe"
	}
	return ""
}

// here is this machine.
var here = target{runtime.GOOS, runtime.GOARCH}

// released are the targets of a release.
var released = []target{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// A job is one run.
type job struct {
	root, out, revision, release string
	targets                      []target
	formats                      []string

	source source
	host   string   // the program for this machine, which is asked about itself
	files  []string // that were made
}

var known = []string{"archive", "deb", "rpm", "sbom"}

func (j *job) parse(targets, formats string, rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %s", rest[0])
	}
	if targets == "all" {
		j.targets = released
	} else {
		for word := range strings.SplitSeq(targets, ",") {
			system, processor, ok := strings.Cut(word, "/")
			if !ok || system == "" || processor == "" {
				return fmt.Errorf("-targets: %q is not SYSTEM/PROCESSOR, such as linux/arm64", word)
			}
			j.targets = append(j.targets, target{system, processor})
		}
	}
	for word := range strings.SplitSeq(formats, ",") {
		if !slices.Contains(known, word) {
			return fmt.Errorf("-formats: %q is none of %s", word, strings.Join(known, ", "))
		}
		j.formats = append(j.formats, word)
	}
	for _, t := range j.targets {
		if t.system != "linux" && !slices.Contains(j.formats, "archive") && !slices.Contains(j.formats, "sbom") {
			return fmt.Errorf("%s has no packages: those are for linux", t)
		}
	}
	if j.release == "" || strings.Trim(j.release, "0123456789") != "" {
		return fmt.Errorf("-release: %q is no number", j.release)
	}
	root, err := filepath.Abs(j.root)
	if err != nil {
		return err
	}
	j.root = root
	if j.out == "" {
		j.out = filepath.Join(root, "bin", "release")
	}
	j.out, err = filepath.Abs(j.out)
	return err
}

func (j *job) run() (err error) {
	work, err := os.MkdirTemp("", "lockd-release")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	j.host = filepath.Join(work, "host", "lockd"+here.exe())
	if err := j.identify(); err != nil {
		return err
	}
	docs := filepath.Join(work, "docs")
	if err := j.document(docs); err != nil {
		return err
	}
	if err := j.clear(); err != nil {
		return err
	}
	for _, t := range j.targets {
		if err := j.make(t, filepath.Join(work, t.system+"_"+t.processor), docs); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return j.sum()
}

// clear makes the folder for the files, empty. Only what a release has left there
// goes away for it.
func (j *job) clear() error {
	entries, err := os.ReadDir(j.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "SHA256SUMS" }) {
		return fmt.Errorf("%s has other files than those of a release: name another folder", j.out)
	}
	if err := os.RemoveAll(j.out); err != nil {
		return err
	}
	return os.MkdirAll(j.out, 0o755)
}

// make makes all that there is to be for a target.
func (j *job) make(t target, dir, docs string) error {
	binary := filepath.Join(dir, "lockd"+t.exe())
	if t == here {
		binary = j.host
	} else if err := j.build(t, binary); err != nil {
		return err
	}
	parts, err := modules(binary)
	if err != nil {
		return err
	}
	makers := map[string]func() error{
		"archive": func() error { return j.archive(t, binary, docs, parts) },
		"sbom":    func() error { return j.sbom(t, binary, parts) },
		"deb":     func() error { return j.pack("deb", t, binary, docs, parts) },
		"rpm":     func() error { return j.pack("rpm", t, binary, docs, parts) },
	}
	for _, format := range j.formats {
		if (format == "deb" || format == "rpm") && t.system != "linux" {
			continue
		}
		if err := makers[format](); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

// create begins a file of the release.
func (j *job) create(name string) (*os.File, error) {
	j.files = append(j.files, name)
	return os.OpenFile(filepath.Join(j.out, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
}

// base is the name of a target's files, without its ending.
func (j *job) base(t target) string {
	return fmt.Sprintf("lockd_%s_%s_%s", j.source.version, t.system, t.processor)
}
