package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// A layout is where a family of systems has its files.
type layout struct{ units, defaults, zsh string }

var layouts = map[string]layout{
	"deb": {"/lib/systemd/system", "/etc/default/lockd", "/usr/share/zsh/vendor-completions"},
	"rpm": {"/usr/lib/systemd/system", "/etc/sysconfig/lockd", "/usr/share/zsh/site-functions"},
}

// pack makes a package, of what contrib/package/nfpm.yaml lists.
func (j *job) pack(format string, t target, binary, docs string, parts []module) error {
	stage := filepath.Join(filepath.Dir(binary), format)
	l := layouts[format]
	vars := map[string]string{
		"STAGE": stage, "ARCH": t.processor, "VERSION": j.source.version, "RELEASE": j.release,
		"UNITS": l.units, "DEFAULTS": l.defaults, "ZSH": l.zsh,
	}
	config, err := nfpm.ParseFileWithEnvMapping(filepath.Join(j.root, "contrib/package/nfpm.yaml"), func(name string) string { return vars[name] })
	if err != nil {
		return err
	}
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	if err := j.stage(format, stage, binary, docs, info.Maintainer, parts); err != nil {
		return err
	}
	for _, script := range []*string{&info.Scripts.PreInstall, &info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		if *script != "" {
			*script = filepath.Join(j.root, *script)
		}
	}
	if info.Contents, err = j.contents(format, info.Contents); err != nil {
		return err
	}
	if format == "rpm" { // whose summary stands for itself, and which has no dot for a blank line
		_, info.Description, _ = strings.Cut(strings.ReplaceAll(info.Description, "\n.\n", "\n\n"), "\n")
	}
	if err := nfpm.Validate(nfpm.WithDefaults(info)); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := j.create(packager.ConventionalFileName(info))
	if err != nil {
		return err
	}
	return errors.Join(packager.Package(info, f), f.Close())
}

// contents are what goes into a package: files, each by its own name, and folders.
func (j *job) contents(format string, listed files.Contents) (all files.Contents, err error) {
	for _, c := range listed {
		if c.Source != "" && !filepath.IsAbs(c.Source) {
			c.Source = filepath.Join(j.root, c.Source)
		}
		if format == "rpm" && (strings.HasPrefix(c.Destination, "/usr/share/doc/") || strings.HasPrefix(c.Destination, "/usr/share/man/")) {
			c.Type = files.TypeRPMDoc
		}
		if !strings.Contains(c.Source, "*") {
			all = append(all, c)
			continue
		}
		matches, err := filepath.Glob(c.Source)
		if err != nil || matches == nil {
			return nil, fmt.Errorf("there is no %s, %v", c.Source, err)
		}
		for _, file := range matches {
			one := *c
			one.Source, one.Destination = file, path.Join(c.Destination, filepath.Base(file))
			all = append(all, &one)
		}
	}
	return all, nil
}

// stage lays a package's files where nfpm.yaml looks for them.
func (j *job) stage(format, stage, binary, docs, maintainer string, parts []module) error {
	staged := map[string][]byte{}
	read := func(name, file string) (err error) {
		staged[name], err = os.ReadFile(file)
		return err
	}
	listed := map[string]string{"lockd": binary, "doc/README.md": j.root + "/README.md"}
	for _, name := range []string{"lockd.service", "lockd.socket", "lockd-proxy.service", "lockd-proxy.socket"} {
		listed[name] = j.root + "/contrib/systemd/" + name
	}
	for _, name := range []string{"default", "default-proxy"} {
		listed[name] = j.root + "/contrib/package/" + name
	}
	for name, file := range listed {
		if err := read(name, file); err != nil {
			return err
		}
	}
	for _, pattern := range []string{"man/*", "completions/*"} {
		found, err := filepath.Glob(filepath.Join(docs, pattern))
		if err != nil {
			return err
		}
		for _, file := range found {
			name := "completions/" + filepath.Base(file)
			if pattern == "man/*" {
				name = fmt.Sprintf("man/man%s/%s.gz", filepath.Ext(file)[1:], filepath.Base(file))
			}
			if err := read(name, file); err != nil {
				return err
			}
			if strings.HasSuffix(name, ".gz") {
				staged[name] = zipped(staged[name])
			}
		}
	}
	defaults := layouts[format].defaults
	for name, paths := range map[string][2]string{
		"lockd.service":       {"/etc/lockd/environment", defaults},
		"lockd-proxy.service": {"/etc/lockd/proxy.environment", defaults + "-proxy"},
	} {
		unit, err := adapt(name, string(staged[name]), paths)
		if err != nil {
			return err
		}
		staged[name] = []byte(unit)
	}
	if err := j.papers(format, staged, maintainer, parts); err != nil {
		return err
	}
	for name, text := range staged {
		file := filepath.Join(stage, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// papers are the changelog and the licenses.
func (j *job) papers(format string, staged map[string][]byte, maintainer string, parts []module) error {
	markdown, err := os.ReadFile(filepath.Join(j.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(j.root, "LICENSE"))
	if err != nil {
		return err
	}
	if format == "rpm" {
		staged["doc/CHANGELOG.md"] = markdown
		staged["doc/LICENSE"] = license
		staged["doc/THIRD-PARTY-LICENSES"] = []byte(licenses(parts, nil))
		return nil
	}
	debian, err := changelog(string(markdown), j.source, j.release, maintainer)
	if err != nil {
		return err
	}
	staged["doc/changelog.gz"] = zipped(markdown)
	staged["doc/changelog.Debian.gz"] = zipped([]byte(debian))
	staged["doc/copyright"] = []byte("lockd, from https://github.com/nylen/lockd\n\n" + string(license) + "\n" +
		licenses(parts, map[string]string{"Apache-2.0": "/usr/share/common-licenses/Apache-2.0"}))
	return nil
}

// adapt fits a unit to a package: paths, where its settings are among them, and a user
// that stays, to whom files may be given. All else is as in contrib/systemd.
func adapt(name, unit string, settings [2]string) (string, error) {
	for _, change := range [][2]string{
		{"/usr/local/bin/lockd", "/usr/bin/lockd"},
		settings,
		{"\nDynamicUser=yes\n", "\nUser=lockd\nGroup=lockd\n"},
	} {
		if strings.Count(unit, change[0]) != 1 {
			return "", fmt.Errorf("contrib/systemd/%s does not have %q once", name, change[0])
		}
		unit = strings.Replace(unit, change[0], change[1], 1)
	}
	return unit, nil
}
