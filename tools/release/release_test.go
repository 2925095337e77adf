package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// made is what the tests look at: the same source released twice, in two
// folders, and once more as the packages' next version.
var made struct {
	dir                 string
	first, again, later string // folders with the files
	why                 string // nothing is made, if not empty
}

const (
	epoch    = "1790000000"
	revision = "0123456789abcdef0123456789abcdef01234567"
	// changed is what the next version's packages have in /etc/default/lockd besides.
	changed = "\n# The next version has this line.\n"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if made.dir, err = os.MkdirTemp("", "lockd-release-test"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(made.dir)
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// prepare releases.
func prepare() error {
	program := filepath.Join(made.dir, "release")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	copied := filepath.Join(made.dir, "another folder")
	if err := copySource("../..", copied); err != nil {
		return err
	}
	formats := "archive,sbom"
	if here.system == "linux" {
		formats += ",deb,rpm"
	}
	run := func(root, out string, env []string, args ...string) error {
		// Another umask, too, which only a child can have.
		cmd := exec.Command("sh", append([]string{"-c", `umask "$UMASK"; exec "$@"`, "-", program, "-root", root, "-out", out, "-revision", revision, "-formats"}, args...)...)
		cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), env...)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("release: %w\n%s", err, text)
		}
		return nil
	}
	made.first, made.again, made.later = filepath.Join(made.dir, "1"), filepath.Join(made.dir, "2"), filepath.Join(made.dir, "3")
	if err := run("../..", made.first, []string{"UMASK=022"}, formats); err != nil {
		return err
	}
	other := []string{"UMASK=077", "TZ=Asia/Tokyo", "LC_ALL=C", "LOCKD_SERVER=elsewhere:1", "GOFLAGS=-tags=noloop"}
	if err := run(copied, made.again, other, formats); err != nil {
		return err
	}
	if here.system != "linux" {
		return nil
	}
	defaults := filepath.Join(copied, "contrib/package/default")
	text, err := os.ReadFile(defaults)
	if err != nil {
		return err
	}
	if err := os.WriteFile(defaults, append(text, changed...), 0o600); err != nil {
		return err
	}
	return run(copied, made.later, []string{"UMASK=022"}, "deb,rpm", "-release", "2")
}

// copySource copies what a release is made of, with other times, and without git.
func copySource(from, to string) error {
	for _, name := range []string{"go.mod", "go.sum", "README.md", "CHANGELOG.md", "LICENSE", "cmd", "internal", "pkg", "contrib"} {
		err := filepath.WalkDir(filepath.Join(from, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			relative, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			target := filepath.Join(to, relative)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.WriteFile(target, text, 0o600)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// one returns the file of a folder that ends so.
func one(t *testing.T, dir, ending string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(dir, "*"+ending))
	if len(found) != 1 {
		t.Fatalf("in %s there are %q that end in %s", dir, found, ending)
	}
	return found[0]
}

// The same source makes the same bytes, in another folder, on another day, for
// another user.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	list := func(dir string) map[string][]byte {
		all := map[string][]byte{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	first, again := list(made.first), list(made.again)
	if want := 3; here.system == "linux" && len(first) != want+2 || len(first) < want || len(again) != len(first) {
		t.Errorf("%d files, then %d", len(first), len(again))
	}
	for name, text := range first {
		if !bytes.Equal(text, again[name]) {
			t.Errorf("%s is another one", name)
		}
	}
	cmd := exec.Command("sha256sum", "-c", "SHA256SUMS")
	cmd.Dir = made.first
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != len(first)-1 {
		t.Errorf("%v, %s", err, out)
	}
}

// unpack reads a tar.gz.
func unpack(t *testing.T, file string) map[string]*bytes.Buffer {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*bytes.Buffer{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1790000000 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s is of %v, %d %q", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		all[h.Name] = new(bytes.Buffer)
		if _, err := io.Copy(all[h.Name], r); err != nil {
			t.Fatal(err)
		}
	}
}

// examples are the files in contrib that are of use to those who have no clone.
func examples(t *testing.T) (names []string) {
	t.Helper()
	const contrib = "../../contrib"
	err := filepath.WalkDir(contrib, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == "package" || d.Name() == "systemd" || d.Name() == "__pycache__":
			return fs.SkipDir
		}
		name, err := filepath.Rel(contrib, path)
		if !d.IsDir() && name != "README.md" && !strings.HasSuffix(name, "_test.go") {
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil || len(names) < 20 {
		t.Fatalf("%q, %v", names, err)
	}
	return names
}

func TestArchive(t *testing.T) {
	t.Parallel()
	file := one(t, made.first, ".tar.gz")
	base := strings.TrimSuffix(filepath.Base(file), ".tar.gz")
	all := unpack(t, file)
	for _, name := range []string{"README.md", "LICENSE", "CHANGELOG.md", "THIRD-PARTY-LICENSES", "man/lockd.1", "man/lockd-run.1", "man/lockd-serve.8",
		"completions/lockd.bash", "completions/_lockd", "completions/lockd.fish", "systemd/lockd.service", "systemd/lockd.socket", "systemd/lockd-proxy.service", "systemd/lockd-proxy.socket", "grafana/lockd.json", "prometheus/lockd.rules.yaml"} {
		if b := all[base+"/"+name]; b == nil || b.Len() == 0 {
			t.Errorf("no %s", name)
		}
	}
	for _, name := range examples(t) {
		if all[base+"/"+name] == nil {
			t.Errorf("no %s", name)
		}
	}
	program := filepath.Join(t.TempDir(), "lockd")
	if err := os.WriteFile(program, all[base+"/lockd"].Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "version").Output()
	version := strings.Split(base, "_")[1]
	if err != nil || !strings.HasPrefix(string(out), "lockd "+version+" (go") || !strings.HasSuffix(string(out), "revision "+revision+")\n") {
		t.Errorf("version: %q, %v", out, err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range info.Deps {
		if !strings.Contains(all[base+"/THIRD-PARTY-LICENSES"].String(), dep.Path+" "+dep.Version+"\n") {
			t.Errorf("no license of %s", dep.Path)
		}
	}
}

// The list of parts is the program's own.
func TestSBOM(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(one(t, made.first, ".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		Format     string `json:"bomFormat"`
		Serial     string `json:"serialNumber"`
		Components []struct {
			Name, Version, Purl string
			Licenses            []struct{ License struct{ ID string } }
		}
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	archive := one(t, made.first, ".tar.gz")
	program := filepath.Join(t.TempDir(), "lockd")
	os.WriteFile(program, unpack(t, archive)[strings.TrimSuffix(filepath.Base(archive), ".tar.gz")+"/lockd"].Bytes(), 0o755)
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, dep := range info.Deps {
		want = append(want, dep.Path+"@"+dep.Version)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+"@"+c.Version)
		if c.Purl != "pkg:golang/"+c.Name+"@"+c.Version || len(c.Licenses) != 1 || c.Licenses[0].License.ID == "" {
			t.Errorf("%+v", c)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if bom.Format != "CycloneDX" || bom.Serial != "" || !slices.Equal(got, want) || len(got) < 8 {
		t.Errorf("%s %s: got %q, want %q", bom.Format, bom.Serial, got, want)
	}
}

// A zip has the same bytes whatever the time zone, and is one.
func TestZip(t *testing.T) {
	entries := []entry{{"a/b.txt", 0o644, []byte("text")}, {"a/lockd.exe", 0o755, bytes.Repeat([]byte("x"), 1000)}}
	var one, two bytes.Buffer
	date := time.Unix(1790000000, 0)
	if err := writeZip(&one, entries, date.UTC()); err != nil {
		t.Fatal(err)
	}
	if err := writeZip(&two, entries, date.In(time.FixedZone("east", 9*3600))); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("another time zone makes another zip")
	}
	r, err := zip.NewReader(bytes.NewReader(one.Bytes()), int64(one.Len()))
	if err != nil || len(r.File) != 2 || r.File[1].Mode() != 0o755 || !r.File[1].Modified.Equal(date) {
		t.Fatalf("%v, %+v", err, r)
	}
}

func TestChangelog(t *testing.T) {
	s := source{version: "0.3.0", date: time.Unix(1790000000, 0)}
	got, err := changelog(`# Changelog

- not this

## [Unreleased]

Some words.

### Added

- flags: **new** ones, see [docs](https://example.org/x), which is a line that is longer than what fits into one
  and goes on.

## [0.2.0] - 2026-03-04

- server: fixed.

## [0.1.0] - 2026-01-02

Nothing in a list.
`, s, "1", "a <b@example.org>")
	want := `lockd (0.3.0-1) unstable; urgency=medium

  * flags: new ones, see docs, which is a line that is longer than what fits
    into one and goes on.

 -- a <b@example.org>  Mon, 21 Sep 2026 14:13:20 +0000

lockd (0.2.0-1) unstable; urgency=medium

  * server: fixed.

 -- a <b@example.org>  Wed, 04 Mar 2026 00:00:00 +0000
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	for text, wrong := range map[string]string{
		"# Nothing":                      "no version",
		"## [0.1.0]\n\n- x\n":            "version 0.1.0 has no date",
		"## [0.1.0] - 2026-13-01\n- x\n": "month out of range",
	} {
		if _, err := changelog(text, s, "1", ""); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWrongArguments(t *testing.T) {
	program := filepath.Join(made.dir, "release")
	for args, wrong := range map[string]string{
		"-targets linux":                        `-targets: "linux" is not SYSTEM/PROCESSOR, such as linux/arm64`,
		"-formats exe":                          `-formats: "exe" is none of archive, deb, rpm, sbom`,
		"-targets darwin/arm64 -formats deb":    "darwin/arm64 has no packages: those are for linux",
		"-release 1a":                           `-release: "1a" is no number`,
		"deb":                                   "unexpected argument deb",
		"-root " + made.dir + " -revision none": "there is no git here to tell when this source was made: set SOURCE_DATE_EPOCH",
	} {
		cmd := exec.Command(program, strings.Fields(args)...)
		cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "SOURCE_DATE_EPOCH=") })
		if out, err := cmd.CombinedOutput(); err == nil || string(out) != "release: "+wrong+"\n" {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
}

// What /etc/default/lockd names are variables of lockd serve, and the proxy's are of
// lockd proxy.
func TestDefaults(t *testing.T) {
	archive := one(t, made.first, ".tar.gz")
	all := unpack(t, archive)
	for file, page := range map[string]string{"default": "lockd-serve.8", "default-proxy": "lockd-proxy.1"} {
		text, err := os.ReadFile("../../contrib/package/" + file)
		if err != nil {
			t.Fatal(err)
		}
		known := all[strings.TrimSuffix(filepath.Base(archive), ".tar.gz")+"/man/"+page]
		found := regexp.MustCompile(`LOCKD_[A-Z_]+`).FindAllString(string(text), -1)
		if len(found) < 5 || known == nil {
			t.Fatalf("%s has only %q; is there no %s?", file, found, page)
		}
		for _, name := range found {
			if name != "LOCKD_" && !strings.Contains(known.String(), ".B "+name+"\n") {
				t.Errorf("%s: %s has no %s", file, page, name)
			}
		}
	}
}

// Where nobody says when, it is when the commit was made, for all that is made.
func TestDate(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := t.TempDir()
	for _, args := range []string{"init -q", "-c user.name=a -c user.email=a@example.org commit -q --allow-empty -m first"} {
		cmd := exec.Command("git", append([]string{"-C", dir}, strings.Fields(args)...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=1234567890 +0900", "GIT_CONFIG_GLOBAL="+os.DevNull)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("git: %v, %s", err, out)
		}
	}
	j := job{root: dir}
	if err := j.date(); err != nil || j.source.date.Unix() != 1234567890 || os.Getenv("SOURCE_DATE_EPOCH") != "1234567890" || len(j.source.revision) != 40 {
		t.Errorf("%+v, %v, %s", j.source, err, os.Getenv("SOURCE_DATE_EPOCH"))
	}
	t.Setenv("SOURCE_DATE_EPOCH", "soon")
	if err := j.date(); err == nil || err.Error() != `SOURCE_DATE_EPOCH is no number of seconds: "soon"` {
		t.Error(err)
	}
}

// is tells whether a program is there, or skips.
func is(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("there is no ", p)
		}
	}
}
