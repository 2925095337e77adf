package server

import (
	"runtime/debug"
	"strings"
)

// Version is the version of this server, as CHANGELOG.md has it.
const Version = "0.1.0"

// archived is the commit where the source is an archive made by git, GitHub's
// too, which completes the format (.gitattributes). A variable, so that who
// builds from something else can set it: go build -ldflags
// "-X github.com/nylen/lockd/pkg/server.archived=COMMIT".
var archived = "$Format:%H$"

// Revision returns what this server was built from, as far as that is known,
// and else the empty string: a commit, with "+dirty" behind it if files had
// been changed, or the module's version.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return revision(info, archived)
}

const module = "github.com/nylen/lockd"

func revision(info *debug.BuildInfo, archived string) string {
	for _, m := range info.Deps { // a program with a server in it
		if m.Path == module {
			for m.Replace != nil {
				m = m.Replace
			}
			return published(m)
		}
	}
	var commit, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	switch {
	case commit != "":
		return commit + dirty
	case published(&info.Main) != "":
		return published(&info.Main)
	case !strings.HasPrefix(archived, "$"):
		return archived
	}
	return ""
}

// published returns the version of a module that was downloaded. One without a
// sum is a folder, whatever its version says.
func published(m *debug.Module) string {
	if m.Sum == "" {
		return ""
	}
	return m.Version
}
