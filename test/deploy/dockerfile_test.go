package deploy

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// lint returns the stages, and what BuildKit minds: errors, what its parser
// warns of, and its linter.
func lint(t *testing.T, recipe []byte) (stages []instructions.Stage, minds []string) {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(recipe))
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, w := range parsed.Warnings {
		minds = append(minds, w.Short)
	}
	l := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) { minds = append(minds, rule+": "+message) }})
	stages, _, err = instructions.Parse(parsed.AST, l)
	if err != nil {
		minds = append(minds, err.Error())
	}
	return stages, minds
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	recipe, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, minds := lint(t, recipe)
	if len(minds) > 0 || len(stages) != 2 {
		t.Fatalf("%d stages, %q", len(stages), minds)
	}
	if stages[1].BaseName != "scratch" {
		t.Errorf("the image is made of %s", stages[1].BaseName)
	}
	labels, owners := map[string]string{}, map[string]string{}
	for _, c := range stages[1].Commands {
		switch c := c.(type) {
		case *instructions.LabelCommand:
			for _, l := range c.Labels {
				labels[l.Key] = l.Value
			}
		case *instructions.CopyCommand:
			owners[c.DestPath] = c.Chown
		case *instructions.HealthCheckCommand:
			if got := strings.Join(c.Health.Test, " "); got != "CMD /lockd ping" {
				t.Errorf("its health is %q", got)
			}
		case *instructions.EntrypointCommand:
			if c.PrependShell {
				t.Error("it needs a shell, which is not there")
			}
		}
	}
	if got := owners["/var/lib/lockd"]; got != "65532:65532" {
		t.Errorf("a volume for the state file is %q's", got)
	}
	for _, key := range []string{"title", "description", "url", "source", "documentation", "licenses", "revision"} {
		if labels["org.opencontainers.image."+key] == "" {
			t.Errorf("there is no label %s in %q", key, labels)
		}
	}
}

// What is wrong is found.
func TestDockerfileLint(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"FROM scratch\nHEALTHCHECK --often CMD x", "FROM scratch\nENTRYPONT x", "from scratch AS a\nCOPY x /", "FROM scratch\nMAINTAINER x"} {
		if _, minds := lint(t, []byte(wrong)); len(minds) == 0 {
			t.Errorf("%q is fine", wrong)
		}
	}
}
