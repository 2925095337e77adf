package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// An entry is a file of an archive.
type entry struct {
	name string
	mode fs.FileMode
	text []byte
}

// archive makes a target's archive: a tar.gz, or for Windows a zip.
func (j *job) archive(t target, binary, docs string, parts []module) error {
	base := j.base(t)
	entries, err := j.entries(binary, docs, parts)
	if err != nil {
		return err
	}
	for i := range entries {
		entries[i].name = path.Join(base, entries[i].name)
	}
	name, write := base+".tar.gz", writeTar
	if t.system == "windows" {
		name, write = base+".zip", writeZip
	}
	f, err := j.create(name)
	if err != nil {
		return err
	}
	if err := write(f, entries, j.source.date); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// entries are what is in an archive.
func (j *job) entries(binary, docs string, parts []module) ([]entry, error) {
	list := []entry{{"THIRD-PARTY-LICENSES", 0o644, []byte(licenses(parts, nil))}}
	add := func(name, file string, mode fs.FileMode) error {
		text, err := os.ReadFile(file)
		list = append(list, entry{name, mode, text})
		return err
	}
	if err := add(filepath.Base(binary), binary, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "LICENSE"} {
		if err := add(name, filepath.Join(j.root, name), 0o644); err != nil {
			return nil, err
		}
	}
	for _, from := range []struct {
		folder string
		files  []string
	}{
		{docs, []string{"man/*", "completions/*"}},
		{filepath.Join(j.root, "contrib"), []string{
			"systemd/*", "grafana/*", "prometheus/*", "nginx/*", "haproxy/*", "caddy/*", "traefik/*", "kubernetes/*.yaml", "kubernetes/*/*.yaml", "clients/*/*.*", // but no __pycache__
		}},
	} {
		for _, pattern := range from.files {
			files, err := filepath.Glob(filepath.Join(from.folder, pattern))
			if err != nil {
				return nil, err
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("there is no %s in %s", pattern, from.folder)
			}
			for _, file := range files {
				name, err := filepath.Rel(from.folder, file)
				if err != nil {
					return nil, err
				}
				if err := add(filepath.ToSlash(name), file, 0o644); err != nil {
					return nil, err
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

func writeTar(to io.Writer, entries []entry, date time.Time) error {
	z, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	for _, e := range entries {
		// Owner and group are root's numbers, without names.
		h := &tar.Header{Name: e.name, Mode: int64(e.mode), Size: int64(len(e.text)), ModTime: date, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(e.text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return z.Close()
}

func writeZip(to io.Writer, entries []entry, date time.Time) error {
	w := zip.NewWriter(to)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: date.UTC()}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.text); err != nil {
			return err
		}
	}
	return w.Close()
}

// sum writes the checksums of all files, as sha256sum -c reads them.
func (j *job) sum() error {
	slices.Sort(j.files)
	var sums bytes.Buffer
	for _, name := range j.files {
		text, err := os.ReadFile(filepath.Join(j.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), name)
	}
	fmt.Printf("in %s:\n%s", j.out, &sums)
	return os.WriteFile(filepath.Join(j.out, "SHA256SUMS"), sums.Bytes(), 0o644)
}
