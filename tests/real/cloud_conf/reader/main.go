// SPDX-License-Identifier: GPL-3.0-or-later

// Reads cloud.conf files with the code of cloud-provider-openstack: one question per line of JSON, one answer each.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	gcfg "gopkg.in/gcfg.v1"
	"k8s.io/cloud-provider-openstack/pkg/client"
	csi "k8s.io/cloud-provider-openstack/pkg/csi/cinder/openstack"
	"k8s.io/cloud-provider-openstack/pkg/kms/barbican"
	occm "k8s.io/cloud-provider-openstack/pkg/openstack"
	"k8s.io/cloud-provider-openstack/pkg/util"
	"k8s.io/klog/v2"
)

type question struct {
	Op     string `json:"op"`
	Reader string `json:"reader"`
	Text   []byte `json:"text"`
}

type answer struct {
	Error string `json:"error,omitempty"`
	// What of the file the reader does not know, and passes over.
	Ignored string `json:"ignored,omitempty"`
	Config  any    `json:"config,omitempty"`
	Request any    `json:"request,omitempty"`
}

// keyName is the name by which gcfg finds a field.
func keyName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("gcfg"), ",")
	if name == "" {
		name = strings.ReplaceAll(strings.ToLower(field.Name), "_", "-")
	}
	return name
}

func isSection(value reflect.Value) bool {
	return value.Kind() == reflect.Struct && value.Type() != reflect.TypeOf(util.MyDuration{})
}

func dump(value reflect.Value) any {
	if duration, ok := value.Interface().(util.MyDuration); ok {
		return duration.Nanoseconds()
	}
	switch value.Kind() {
	case reflect.Pointer:
		return dump(value.Elem())
	case reflect.Map:
		result := map[string]any{}
		for _, key := range value.MapKeys() {
			result[key.String()] = dump(value.MapIndex(key))
		}
		return result
	case reflect.Struct:
		result := map[string]any{}
		for index := range value.NumField() {
			if field := value.Type().Field(index); field.Type.Kind() != reflect.Map {
				result[keyName(field)] = dump(value.Field(index))
			}
		}
		return result
	}
	return value.Interface()
}

// dumpConfig has the sections of a file as keys: of those, maps are what may have a name.
func dumpConfig(config any) map[string]any {
	value := reflect.ValueOf(config).Elem()
	result := map[string]any{}
	for index := range value.NumField() {
		result[value.Type().Field(index).Name] = dump(value.Field(index))
	}
	return result
}

func describe(kind reflect.Type) map[string]any {
	keys := map[string]any{}
	for index := range kind.NumField() {
		field := kind.Field(index)
		if field.Type.Kind() == reflect.Map { // no value can be given to it
			continue
		}
		keys[keyName(field)] = field.Type.String()
	}
	return keys
}

// describeConfig says which sections a reader has, whether they are named, and the Go types of their keys.
func describeConfig(config any) map[string]any {
	kind := reflect.TypeOf(config).Elem()
	sections := map[string]any{}
	for index := range kind.NumField() {
		field := kind.Field(index)
		named := field.Type.Kind() == reflect.Map
		section := field.Type
		if named {
			section = section.Elem().Elem()
		}
		sections[field.Name] = map[string]any{"named": named, "keys": describe(section)}
	}
	return sections
}

func newConfig(reader string) any {
	switch reader {
	case "occm":
		return &occm.Config{}
	case "cinder_csi":
		return &csi.Config{}
	case "barbican_kms":
		return &barbican.Config{}
	}
	panic("no reader is called " + reader)
}

func read(reader string, text []byte) (any, error) {
	if reader == "occm" { // the only one that is exported as a function of a text
		config, err := occm.ReadConfig(bytes.NewReader(text))
		return &config, err
	}
	config := newConfig(reader)
	return config, gcfg.FatalOnly(gcfg.ReadInto(config, bytes.NewReader(text)))
}

// request is what would be sent to Keystone: the steps of client.NewOpenStackClient but for the call.
func request(login *client.AuthOpts) (any, error) {
	var options gophercloud.AuthOptions
	if login.TrustID != "" {
		options = login.ToAuth3Options()
		if login.TrusteeID != "" {
			options.UserID = login.TrusteeID
		}
		if login.TrusteePassword != "" {
			options.Password = login.TrusteePassword
		}
		options.Scope.TrustID = login.TrustID
	} else {
		options = login.ToAuthOptions()
	}
	if options.IdentityEndpoint == "" {
		return nil, fmt.Errorf("no login could be made of the configuration")
	}
	scope, err := options.ToTokenV3ScopeMap()
	if err != nil {
		return nil, err
	}
	return options.ToTokenV3CreateMap(scope)
}

func reply(asked question) (result answer) {
	defer func() {
		if reason := recover(); reason != nil {
			result = answer{Error: fmt.Sprintf("panic: %v", reason)}
		}
	}()
	if asked.Op == "describe" {
		defaults, err := read(asked.Reader, nil)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Config: map[string]any{"sections": describeConfig(newConfig(asked.Reader)), "defaults": dumpConfig(defaults)}}
	}
	config, err := read(asked.Reader, asked.Text)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if asked.Op == "login" {
		requests := map[string]any{}
		logins := map[string]*client.AuthOpts{}
		switch typed := config.(type) {
		case *occm.Config:
			logins[""] = &typed.Global
		case *csi.Config:
			logins = typed.Global
		case *barbican.Config:
			logins[""] = &typed.Global
		}
		for name, login := range logins {
			if requests[name], err = request(login); err != nil {
				return answer{Error: err.Error()}
			}
		}
		return answer{Request: requests}
	}
	result.Config = dumpConfig(config)
	if err := gcfg.ReadInto(newConfig(asked.Reader), bytes.NewReader(asked.Text)); err != nil {
		result.Ignored = err.Error()
	}
	return result
}

func main() {
	flags := flag.NewFlagSet("reader", flag.ExitOnError)
	klog.InitFlags(flags)
	_ = flags.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL", "-alsologtostderr=false"})
	klog.SetOutput(bytes.NewBuffer(nil))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			_ = answers.Encode(answer{Error: err.Error()})
			continue
		}
		_ = answers.Encode(reply(asked))
	}
}
