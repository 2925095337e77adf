// Package grafana reads the dashboard with what Grafana generates from its own schema
// for programs that make dashboards. It is a module of its own since that is large.
package grafana

import (
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const file = "../../contrib/grafana/lockd.json"

// strictly tells what in a dashboard is not as the schema has it: fields that it does
// not know, or needs, in the dashboard, its variables, panels and queries.
func strictly(text []byte) string {
	var d dashboard.Dashboard
	for _, err := range []error{d.UnmarshalJSONStrict(text), d.Validate()} {
		if err != nil && strings.TrimSpace(err.Error()) != "" { // a list of none is an error, too
			return err.Error()
		}
	}
	return ""
}

func TestSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := strictly(text); wrong != "" {
		t.Errorf("%s: %s", file, wrong)
	}
	// That it does look.
	for right, wrong := range map[string]string{
		`"type": "timeseries"`: `"type": 7`, `"fillOpacity": 10`: `"fillOpacity": "much"`, `"gridPos"`: `"gridPlace"`,
		`"legendFormat"`: `"legendForm"`, `"textMode"`: `"mode"`, `"refresh": 2`: `"refresh": "always"`, `"graphTooltip"`: `"tip"`,
	} {
		if !strings.Contains(string(text), right) {
			t.Errorf("%s has no %s", file, right)
		} else if strictly([]byte(strings.ReplaceAll(string(text), right, wrong))) == "" {
			t.Errorf("nobody minds %s", wrong)
		}
	}
}
