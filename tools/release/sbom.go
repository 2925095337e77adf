package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// sbom lists what is in a program, as CycloneDX has it. There is no serial
// number in it: that would be another one each time.
func (j *job) sbom(t target, binary string, parts []module) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	ref := fmt.Sprintf("pkg:golang/github.com/nylen/lockd@v%s?goarch=%s&goos=%s&type=module#cmd/lockd", j.source.version, t.processor, t.system)
	main := &cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: "lockd", Version: j.source.version, PackageURL: ref,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}},
		Properties: &[]cdx.Property{
			{Name: "revision", Value: j.source.revision},
			{Name: "go", Value: runtime.Version()},
		},
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: main, Timestamp: j.source.date.Format(time.RFC3339)}
	var components []cdx.Component
	var refs []string
	for _, m := range parts {
		purl := "pkg:golang/" + m.path + "@" + m.version
		c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.path, Version: m.version, PackageURL: purl}
		if m.license != "" {
			c.Licenses = &cdx.Licenses{{License: &cdx.License{ID: m.license}}}
		} else {
			c.Licenses = &cdx.Licenses{{License: &cdx.License{Name: m.path}}}
		}
		if hash, ok := strings.CutPrefix(m.sum, "h1:"); ok { // of go.sum: SHA-256 over the files' own
			raw, err := base64.StdEncoding.DecodeString(hash)
			if err != nil {
				return err
			}
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
		}
		components = append(components, c)
		refs = append(refs, purl)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: ref, Dependencies: &refs}}
	f, err := j.create(j.base(t) + ".cdx.json")
	if err != nil {
		return err
	}
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bom); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
