"""Answers what the compound matcher of real Salt says: one JSON array [pattern, host] per line in, true or false out."""

import copy
import json
import logging
import sys
import tempfile

import salt.config
import salt.loader

# A pattern that Salt cannot read is a log line and "False"; the test sends none on purpose.
logging.disable(logging.CRITICAL)

with tempfile.TemporaryDirectory() as scratch:
    opts = copy.deepcopy(salt.config.DEFAULT_MINION_OPTS)
    opts.update(id="oracle", root_dir=scratch, cachedir=scratch, extension_modules=scratch, grains={}, pillar={})
    matches = salt.loader.matchers(opts)["compound_match.match"]
    for line in sys.stdin:
        pattern, host = json.loads(line)
        print(json.dumps(bool(matches(pattern, opts=opts, minion_id=host))))
