package server

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

func TestRevision(t *testing.T) {
	const commit, placeholder = "0123456789abcdef0123456789abcdef01234567", "$Format:%H$"
	clone := []debug.BuildSetting{{Key: "vcs.revision", Value: commit}}
	changed := []debug.BuildSetting{{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "true"}}
	lockd := debug.Module{Path: "github.com/nylen/lockd", Version: "(devel)"}
	installed := debug.Module{Path: "github.com/nylen/lockd", Version: "v0.1.0", Sum: "h1:x"}
	other := debug.Module{Path: "example.com/other", Version: "v9.9.9", Sum: "h1:x"}
	for _, test := range []struct {
		what     string
		info     debug.BuildInfo
		archived string
		want     string
	}{
		{"in a clone", debug.BuildInfo{Main: lockd, Settings: clone}, placeholder, commit},
		{"in a clone with changes", debug.BuildInfo{Main: lockd, Settings: changed}, placeholder, commit + "+dirty"},
		{"go install ...@v0.1.0", debug.BuildInfo{Main: installed}, placeholder, "v0.1.0"},
		{"from an archive", debug.BuildInfo{Main: lockd}, commit, commit},
		{"from a bare copy", debug.BuildInfo{Main: lockd}, placeholder, ""},
		{"in another program", debug.BuildInfo{Main: other, Deps: []*debug.Module{&installed}, Settings: clone}, placeholder, "v0.1.0"},
		{"in another program, from a folder", debug.BuildInfo{Main: other, Settings: clone, Deps: []*debug.Module{
			{Path: "github.com/nylen/lockd", Version: "v0.1.0", Sum: "h1:x", Replace: &debug.Module{Path: "../lockd"}},
		}}, placeholder, ""},
	} {
		if got := revision(&test.info, test.archived); got != test.want {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
}

// TestArchivedIsCompleted: git completes the format in the files that
// .gitattributes names.
func TestArchivedIsCompleted(t *testing.T) {
	attributes, err := os.ReadFile("../../.gitattributes")
	if err != nil || !strings.Contains(string(attributes), "\n/pkg/server/version.go export-subst\n") {
		t.Errorf("%s, %v", attributes, err)
	}
	source, err := os.ReadFile("version.go")
	if err != nil || !strings.Contains(string(source), "\nvar archived = \"") {
		t.Errorf("%s, %v", source, err)
	}
}
