BEGIN TRANSACTION;
CREATE TABLE arm (
	study_id VARCHAR(16) NOT NULL, 
	position INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	optimizer VARCHAR(64) NOT NULL, 
	trials INTEGER NOT NULL, 
	CONSTRAINT pk_arm PRIMARY KEY (study_id, position), 
	CONSTRAINT fk_arm_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "arm" VALUES('rr3qqksx',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('gbmv6q7z',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('bhmksz28',0,'adamp','adamp',3);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor VARCHAR(64), 
	verb VARCHAR(32) NOT NULL, 
	study_id VARCHAR(16), 
	subject VARCHAR(64), 
	address VARCHAR(255), 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,'2026-11-30 12:29:26.055669',NULL,'token.create',NULL,'ada',NULL);
INSERT INTO "audit" VALUES(2,'2026-11-30 12:29:26.078020','ada','login',NULL,NULL,'127.0.0.1');
INSERT INTO "audit" VALUES(3,'2026-11-30 12:29:26.136011','ada','webhook.create',NULL,'g3mgf8rs',NULL);
INSERT INTO "audit" VALUES(4,'2026-11-30 12:29:26.193060','ada','webhook.test',NULL,'g3mgf8rs',NULL);
INSERT INTO "audit" VALUES(5,'2026-11-30 12:29:26.260433','ada','webhook.test',NULL,'g3mgf8rs',NULL);
INSERT INTO "audit" VALUES(6,'2026-11-30 12:29:26.318213',NULL,'submit','rr3qqksx',NULL,NULL);
INSERT INTO "audit" VALUES(7,'2026-11-30 12:29:27.062683',NULL,'submit','gbmv6q7z',NULL,NULL);
INSERT INTO "audit" VALUES(8,'2026-11-30 12:29:27.222637',NULL,'submit','bhmksz28',NULL,NULL);
CREATE TABLE delivery (
	id VARCHAR(40) NOT NULL, 
	webhook_id VARCHAR(16) NOT NULL, 
	study_id VARCHAR(16), 
	event VARCHAR(32) NOT NULL, 
	body TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	status_code INTEGER, 
	error TEXT, 
	created_at DATETIME NOT NULL, 
	due_at DATETIME, 
	ended_at DATETIME, 
	CONSTRAINT pk_delivery PRIMARY KEY (id), 
	CONSTRAINT fk_delivery_webhook_id FOREIGN KEY(webhook_id) REFERENCES webhook (id) ON DELETE CASCADE
);
INSERT INTO "delivery" VALUES('msg_1bfbad18f54d6580afaac4f33dbf99bc','g3mgf8rs',NULL,'webhook.ping','{"type":"webhook.ping","timestamp":"2026-11-30T12:29:26.191281Z","data":{"webhook_id":"g3mgf8rs"}}','delivered',1,204,NULL,'2026-11-30 12:29:26.191367',NULL,'2026-11-30 12:29:26.231218');
INSERT INTO "delivery" VALUES('msg_c5fd2c69a30f32dae91b11b11facb96d','g3mgf8rs',NULL,'webhook.ping','{"type":"webhook.ping","timestamp":"2026-11-30T12:29:26.234719Z","data":{"webhook_id":"g3mgf8rs"}}','pending',0,NULL,NULL,'2026-11-30 12:29:26.259632','2026-11-30 12:29:26.259632',NULL);
CREATE TABLE event (
	study_id VARCHAR(16) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	at DATETIME NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (study_id, number), 
	CONSTRAINT fk_event_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "event" VALUES('rr3qqksx',1,'study.submitted','2026-11-30 12:29:26.315741','{"name": "Finished", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('rr3qqksx',2,'study.state','2026-11-30 12:29:26.441704','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('rr3qqksx',3,'trial.started','2026-11-30 12:29:26.535134','{"trial": "rr3qqksx.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('rr3qqksx',4,'trial.started','2026-11-30 12:29:26.535134','{"trial": "rr3qqksx.adamp.1", "arm": "adamp", "phase": "search", "number": 1, "attempt": 1, "parameters": {"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('rr3qqksx',5,'trial.started','2026-11-30 12:29:26.535134','{"trial": "rr3qqksx.adamp.2", "arm": "adamp", "phase": "search", "number": 2, "attempt": 1, "parameters": {"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('rr3qqksx',6,'trial.finished','2026-11-30 12:29:26.599695','{"trial": "rr3qqksx.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "state": "completed", "value": 0.8, "reason": null}');
INSERT INTO "event" VALUES('rr3qqksx',7,'trial.finished','2026-11-30 12:29:26.644270','{"trial": "rr3qqksx.adamp.1", "arm": "adamp", "phase": "search", "number": 1, "state": "completed", "value": 0.9, "reason": null}');
INSERT INTO "event" VALUES('rr3qqksx',8,'trial.finished','2026-11-30 12:29:26.650173','{"trial": "rr3qqksx.adamp.2", "arm": "adamp", "phase": "search", "number": 2, "state": "diverged", "value": null, "reason": "the loss became nan"}');
INSERT INTO "event" VALUES('rr3qqksx',9,'trial.started','2026-11-30 12:29:26.875347','{"trial": "rr3qqksx.adamp.c0", "arm": "adamp", "phase": "confirmation", "number": 0, "attempt": 1, "parameters": {"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('rr3qqksx',10,'trial.finished','2026-11-30 12:29:26.906323','{"trial": "rr3qqksx.adamp.c0", "arm": "adamp", "phase": "confirmation", "number": 0, "state": "completed", "value": 0.85, "reason": null}');
INSERT INTO "event" VALUES('rr3qqksx',11,'trial.started','2026-11-30 12:29:26.922033','{"trial": "rr3qqksx.adamp.c1", "arm": "adamp", "phase": "confirmation", "number": 1, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('rr3qqksx',12,'trial.finished','2026-11-30 12:29:26.975505','{"trial": "rr3qqksx.adamp.c1", "arm": "adamp", "phase": "confirmation", "number": 1, "state": "completed", "value": 0.85, "reason": null}');
INSERT INTO "event" VALUES('rr3qqksx',13,'progress','2026-11-30 12:29:27.007792','{"study": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0, "epochs_done": 5, "epochs": 6, "confirmations": 2, "confirmations_finished": 2, "confirmations_running": 0}, "arms": {"adamp": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0, "epochs_done": 5, "epochs": 6, "confirmations": 2, "confirmations_finished": 2, "confirmations_running": 0, "best": 0.9}}}');
INSERT INTO "event" VALUES('rr3qqksx',14,'study.state','2026-11-30 12:29:27.022821','{"from": "running", "to": "completed", "reason": null}');
INSERT INTO "event" VALUES('gbmv6q7z',1,'study.submitted','2026-11-30 12:29:27.054355','{"name": "Running", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('gbmv6q7z',2,'study.state','2026-11-30 12:29:27.101147','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('gbmv6q7z',3,'trial.started','2026-11-30 12:29:27.157796','{"trial": "gbmv6q7z.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('bhmksz28',1,'study.submitted','2026-11-30 12:29:27.201586','{"name": "Waiting", "arms": ["adamp"]}');
CREATE TABLE fit (
	workload VARCHAR(64) NOT NULL, 
	optimizer VARCHAR(64) NOT NULL, 
	batch_size INTEGER NOT NULL, 
	device VARCHAR(128) NOT NULL, 
	card JSON NOT NULL, 
	measured_at DATETIME NOT NULL, 
	CONSTRAINT pk_fit PRIMARY KEY (workload, optimizer, batch_size, device)
);
INSERT INTO "fit" VALUES('digits-mlp','adamp',32,'cpu','{"width": 8, "reason": null, "bytes_per_member": null, "trial_steps_per_s": {}}','2026-11-30 12:29:27.158494');
CREATE TABLE measurement (
	trial_id VARCHAR(96) NOT NULL, 
	epoch INTEGER NOT NULL, 
	elapsed_s FLOAT NOT NULL, 
	lr FLOAT, 
	train_loss FLOAT, 
	validation_loss FLOAT, 
	validation_metric FLOAT, 
	weight_norm FLOAT, 
	effective_step FLOAT, 
	projected_fraction FLOAT, 
	gradient_cosine FLOAT, 
	CONSTRAINT pk_measurement PRIMARY KEY (trial_id, epoch), 
	CONSTRAINT fk_measurement_trial_id FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE
);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.0',1,0.5,NULL,NULL,NULL,0.4,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.0',2,1.0,NULL,NULL,NULL,0.8,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.1',1,0.5,NULL,NULL,NULL,0.45,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.1',2,1.0,NULL,NULL,NULL,0.9,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.2',1,0.5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.c0',1,0.5,NULL,NULL,NULL,0.425,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.c0',2,1.0,NULL,NULL,NULL,0.85,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.c1',1,0.5,NULL,NULL,NULL,0.425,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('rr3qqksx.adamp.c1',2,1.0,NULL,NULL,NULL,0.85,NULL,NULL,NULL,NULL);
CREATE TABLE offer (
	kind VARCHAR(16) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	card JSON NOT NULL, 
	dispatcher VARCHAR(128) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_offer PRIMARY KEY (kind, name)
);
INSERT INTO "offer" VALUES('optimizer','adamp','{"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}','old','2026-11-30 12:29:26.005116');
INSERT INTO "offer" VALUES('workload','digits-mlp','{"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}','old','2026-11-30 12:29:26.019009');
INSERT INTO "offer" VALUES('dispatcher','old','{}','old','2026-11-30 12:29:26.021378');
CREATE TABLE pack_output (
	pack_id VARCHAR(32) NOT NULL, 
	study_id VARCHAR(16) NOT NULL, 
	text TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	written_at DATETIME NOT NULL, 
	CONSTRAINT pk_pack_output PRIMARY KEY (pack_id), 
	CONSTRAINT fk_pack_output_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
CREATE TABLE session (
	digest VARCHAR(64) NOT NULL, 
	token VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	CONSTRAINT pk_session PRIMARY KEY (digest), 
	CONSTRAINT fk_session_token FOREIGN KEY(token) REFERENCES token (name) ON DELETE CASCADE
);
INSERT INTO "session" VALUES('3bdfbd5025b79285ecd82a9a3a187aa25640fe6540c23008ec5ce48efb742660','ada','2026-11-30 12:29:26.085659','2126-11-06 12:29:26.085659');
CREATE TABLE study (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	workload VARCHAR(64) NOT NULL, 
	spec JSON NOT NULL, 
	resolved JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	state_reason TEXT, 
	version INTEGER NOT NULL, 
	last_event INTEGER NOT NULL, 
	owner VARCHAR(64), 
	idempotency_key VARCHAR(255), 
	idempotency_digest VARCHAR(64), 
	lease_owner VARCHAR(128), 
	lease_expires_at DATETIME, 
	attempt INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	ended_at DATETIME, environment JSON, suite VARCHAR(64), queued_at DATETIME, turn_at DATETIME, priority INTEGER DEFAULT '1' NOT NULL, machines VARCHAR(128), packs_wanted INTEGER, card_differences JSON, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_idempotency_key UNIQUE (idempotency_key)
);
INSERT INTO "study" VALUES('rr3qqksx','Finished','digits-mlp','{"name": "Finished", "suite": "small", "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "objective": {"at": "last"}, "confirmation": {"seeds": 1, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "batch_size": null}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','completed',NULL,3,14,NULL,NULL,'8fa9f6fa2d1a388de52b84b8226378a13d66a0f3ef6d10ecac5b7582f8df2a2b',NULL,NULL,1,'2026-11-30 12:29:26.288089','2026-11-30 12:29:26.440888','2026-11-30 12:29:27.007969','{"python": "3.11.9"}','small',NULL,'2026-11-30 12:29:26.439691',1,NULL,NULL,NULL);
INSERT INTO "study" VALUES('gbmv6q7z','Running','digits-mlp','{"name": "Running", "suite": null, "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "objective": {"at": "last"}, "confirmation": {"seeds": 0, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "batch_size": null}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','running',NULL,2,3,NULL,NULL,'8814958305794f15259c3f071e4f5abf7b9cb4387859fb2caea5beb49f8ae1fc','here','2026-11-30 12:29:26.184883',1,'2026-11-30 12:29:27.026411','2026-11-30 12:29:27.100479',NULL,NULL,NULL,NULL,'2026-11-30 12:29:27.099866',1,NULL,NULL,NULL);
INSERT INTO "study" VALUES('bhmksz28','Waiting','digits-mlp','{"name": "Waiting", "suite": null, "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "objective": {"at": "last"}, "confirmation": {"seeds": 0, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "batch_size": null}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','queued',NULL,1,1,NULL,NULL,'c4fd098439947fc1783dcf82edd8266fd38e8d53e026c3725ef0e501ace3d866',NULL,NULL,0,'2026-11-30 12:29:27.199548',NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL);
CREATE TABLE tangent_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tangent_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tangent_version" VALUES('0009');
CREATE TABLE token (
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	created_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	last_used_at DATETIME, max_studies INTEGER, max_trials INTEGER, max_gpu_hours FLOAT, 
	CONSTRAINT pk_token PRIMARY KEY (name), 
	CONSTRAINT uq_token_digest UNIQUE (digest)
);
INSERT INTO "token" VALUES('ada','b7b27a3e623bd532375fc6b7b9f9ed5d7f8d6b79d0b57b9bd29a2fefc0997348','admin','2026-11-30 12:29:26.043428',NULL,NULL,9,NULL,NULL);
CREATE TABLE trial (
	id VARCHAR(96) NOT NULL, 
	study_id VARCHAR(16) NOT NULL, 
	arm VARCHAR(64) NOT NULL, 
	number INTEGER NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	parameters JSON NOT NULL, 
	replicate INTEGER NOT NULL, 
	seed BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	retries INTEGER NOT NULL, 
	value FLOAT, 
	best_epoch INTEGER, 
	test_value FLOAT, 
	epochs_done INTEGER NOT NULL, 
	cost_s FLOAT NOT NULL, 
	reason TEXT, 
	worker VARCHAR(128), 
	copy_state INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	ended_at DATETIME, to_epoch INTEGER DEFAULT '0' NOT NULL, bracket INTEGER DEFAULT '0' NOT NULL, checkpoint TEXT, checkpoint_epoch INTEGER, pack_size INTEGER, phase VARCHAR(16) DEFAULT 'search' NOT NULL, confirms INTEGER, charged_s FLOAT DEFAULT '0' NOT NULL, traceback TEXT, 
	CONSTRAINT pk_trial PRIMARY KEY (id), 
	CONSTRAINT fk_trial_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "trial" VALUES('rr3qqksx.adamp.0','rr3qqksx','adamp',0,'completed','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.8,2,0.79,2,1.0,NULL,'host:1',0,'2026-11-30 12:29:26.492848','2026-11-30 12:29:26.521083','2026-11-30 12:29:26.576301',2,0,NULL,NULL,NULL,'search',NULL,1.0,NULL);
INSERT INTO "trial" VALUES('rr3qqksx.adamp.1','rr3qqksx','adamp',1,'completed','sampled','{"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.9,2,0.89,2,1.0,NULL,'host:1',0,'2026-11-30 12:29:26.492848','2026-11-30 12:29:26.521083','2026-11-30 12:29:26.617395',2,0,NULL,NULL,NULL,'search',NULL,1.0,NULL);
INSERT INTO "trial" VALUES('rr3qqksx.adamp.2','rr3qqksx','adamp',2,'diverged','sampled','{"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,1,0.5,'the loss became nan',NULL,0,'2026-11-30 12:29:26.492848','2026-11-30 12:29:26.521083','2026-11-30 12:29:26.645326',2,0,NULL,NULL,NULL,'search',NULL,0.0,NULL);
INSERT INTO "trial" VALUES('rr3qqksx.adamp.c0','rr3qqksx','adamp',0,'completed','sampled','{"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,6899439178317581,1,0,0.85,2,0.84,2,1.0,NULL,'host:1',0,'2026-11-30 12:29:26.851910','2026-11-30 12:29:26.853891','2026-11-30 12:29:26.878583',2,0,NULL,NULL,NULL,'confirmation',1,1.0,NULL);
INSERT INTO "trial" VALUES('rr3qqksx.adamp.c1','rr3qqksx','adamp',1,'completed','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,6899439178317581,1,0,0.85,2,0.84,2,1.0,NULL,'host:1',0,'2026-11-30 12:29:26.851910','2026-11-30 12:29:26.921015','2026-11-30 12:29:26.942023',2,0,NULL,NULL,NULL,'confirmation',0,1.0,NULL);
INSERT INTO "trial" VALUES('gbmv6q7z.adamp.0','gbmv6q7z','adamp',0,'running','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,0,0.0,NULL,NULL,0,'2026-11-30 12:29:27.129461','2026-11-30 12:29:27.156892',NULL,2,0,NULL,NULL,NULL,'search',NULL,0.0,NULL);
CREATE TABLE trial_output (
	trial_id VARCHAR(96) NOT NULL, 
	pack_id VARCHAR(32) NOT NULL, 
	attempt INTEGER NOT NULL, 
	CONSTRAINT pk_trial_output PRIMARY KEY (trial_id), 
	CONSTRAINT fk_trial_output_trial_id FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE, 
	CONSTRAINT fk_trial_output_pack_id FOREIGN KEY(pack_id) REFERENCES pack_output (pack_id) ON DELETE CASCADE
);
CREATE TABLE webhook (
	id VARCHAR(16) NOT NULL, 
	owner VARCHAR(64), 
	url TEXT NOT NULL, 
	secret VARCHAR(64) NOT NULL, 
	events JSON NOT NULL, 
	studies VARCHAR(8) NOT NULL, 
	suite VARCHAR(64), 
	created_at DATETIME NOT NULL, 
	delivered_at DATETIME, 
	failing_since DATETIME, 
	disabled_at DATETIME, 
	disabled_reason TEXT, 
	CONSTRAINT pk_webhook PRIMARY KEY (id)
);
INSERT INTO "webhook" VALUES('g3mgf8rs','ada','https://hooks.example/tangent','whsec_ZNjURP2mpxQYrALFQpUsKReY9MPXggFb4Kukd4SlunU=','["study.failed"]','all',NULL,'2026-11-30 12:29:26.109308','2026-11-30 12:29:26.231218',NULL,NULL,NULL);
CREATE INDEX ix_study_created_at ON study (created_at);
CREATE INDEX ix_study_state ON study (state);
CREATE INDEX ix_study_workload ON study (workload);
CREATE INDEX ix_trial_study_id_state ON trial (study_id, state);
CREATE UNIQUE INDEX ix_trial_study_id_arm_phase_number ON trial (study_id, arm, phase, number);
CREATE INDEX ix_study_suite ON study (suite);
CREATE INDEX ix_study_owner_turn_at ON study (owner, turn_at);
CREATE INDEX ix_session_expires_at ON session (expires_at);
CREATE INDEX ix_audit_actor ON audit (actor);
CREATE INDEX ix_audit_study_id ON audit (study_id);
CREATE INDEX ix_webhook_owner ON webhook (owner);
CREATE INDEX ix_delivery_due_at ON delivery (due_at);
CREATE INDEX ix_delivery_ended_at ON delivery (ended_at);
CREATE INDEX ix_delivery_webhook_id_created_at ON delivery (webhook_id, created_at);
CREATE INDEX ix_pack_output_study_id ON pack_output (study_id);
CREATE INDEX ix_trial_output_pack_id ON trial_output (pack_id);
COMMIT;
