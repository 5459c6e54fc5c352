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
INSERT INTO "arm" VALUES('3k7ndvbt',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('z4jjj73b',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('f7cnxxfb',0,'adamp','adamp',3);
CREATE TABLE event (
	study_id VARCHAR(16) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	at DATETIME NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (study_id, number), 
	CONSTRAINT fk_event_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "event" VALUES('3k7ndvbt',1,'study.submitted','2026-11-21 13:14:14.551061','{"name": "Finished", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('3k7ndvbt',2,'study.state','2026-11-21 13:14:14.579438','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('3k7ndvbt',3,'trial.started','2026-11-21 13:14:14.587575','{"trial": "3k7ndvbt.adamp.0", "arm": "adamp", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('3k7ndvbt',4,'trial.started','2026-11-21 13:14:14.587575','{"trial": "3k7ndvbt.adamp.1", "arm": "adamp", "number": 1, "attempt": 1, "parameters": {"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('3k7ndvbt',5,'trial.started','2026-11-21 13:14:14.587575','{"trial": "3k7ndvbt.adamp.2", "arm": "adamp", "number": 2, "attempt": 1, "parameters": {"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('3k7ndvbt',6,'trial.finished','2026-11-21 13:14:14.592745','{"trial": "3k7ndvbt.adamp.0", "arm": "adamp", "number": 0, "state": "completed", "value": 0.8, "reason": null}');
INSERT INTO "event" VALUES('3k7ndvbt',7,'trial.finished','2026-11-21 13:14:14.599556','{"trial": "3k7ndvbt.adamp.1", "arm": "adamp", "number": 1, "state": "completed", "value": 0.9, "reason": null}');
INSERT INTO "event" VALUES('3k7ndvbt',8,'trial.finished','2026-11-21 13:14:14.601009','{"trial": "3k7ndvbt.adamp.2", "arm": "adamp", "number": 2, "state": "diverged", "value": null, "reason": "the loss became nan"}');
INSERT INTO "event" VALUES('3k7ndvbt',9,'progress','2026-11-21 13:14:14.610239','{"study": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "epochs_done": 5, "epochs": 6}, "arms": {"adamp": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "epochs_done": 5, "epochs": 6, "best": 0.9}}}');
INSERT INTO "event" VALUES('3k7ndvbt',10,'study.state','2026-11-21 13:14:14.611037','{"from": "running", "to": "completed", "reason": null}');
INSERT INTO "event" VALUES('z4jjj73b',1,'study.submitted','2026-11-21 13:14:14.613028','{"name": "Running", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('z4jjj73b',2,'study.state','2026-11-21 13:14:14.620509','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('z4jjj73b',3,'trial.started','2026-11-21 13:14:14.622944','{"trial": "z4jjj73b.adamp.0", "arm": "adamp", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('f7cnxxfb',1,'study.submitted','2026-11-21 13:14:14.625350','{"name": "Waiting", "arms": ["adamp"]}');
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
INSERT INTO "measurement" VALUES('3k7ndvbt.adamp.0',1,0.5,NULL,NULL,NULL,0.4,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('3k7ndvbt.adamp.0',2,1.0,NULL,NULL,NULL,0.8,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('3k7ndvbt.adamp.1',1,0.5,NULL,NULL,NULL,0.45,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('3k7ndvbt.adamp.1',2,1.0,NULL,NULL,NULL,0.9,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('3k7ndvbt.adamp.2',1,0.5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE offer (
	kind VARCHAR(16) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	card JSON NOT NULL, 
	dispatcher VARCHAR(128) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_offer PRIMARY KEY (kind, name)
);
INSERT INTO "offer" VALUES('optimizer','adamp','{"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}','old','2026-11-21 13:14:14.543702');
INSERT INTO "offer" VALUES('workload','digits-mlp','{"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}','old','2026-11-21 13:14:14.545106');
INSERT INTO "offer" VALUES('dispatcher','old','{}','old','2026-11-21 13:14:14.545391');
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
	ended_at DATETIME, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_idempotency_key UNIQUE (idempotency_key)
);
INSERT INTO "study" VALUES('3k7ndvbt','Finished','digits-mlp','{"name": "Finished", "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2}, "sampler": "tpe", "pruner": "none", "objective": {"at": "last"}, "training": {"schedule": "cosine", "warmup_fraction": 0.05, "batch_size": null, "decay_1d": true}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','completed',NULL,3,10,NULL,NULL,'ba7315f4ad98a7956e11f1ec73f865e4984a16193f6fa39892d40a78b1877008',NULL,NULL,1,'2026-11-21 13:14:14.548572','2026-11-21 13:14:14.578748','2026-11-21 13:14:14.610368');
INSERT INTO "study" VALUES('z4jjj73b','Running','digits-mlp','{"name": "Running", "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2}, "sampler": "tpe", "pruner": "none", "objective": {"at": "last"}, "training": {"schedule": "cosine", "warmup_fraction": 0.05, "batch_size": null, "decay_1d": true}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','running',NULL,2,3,NULL,NULL,'3998da34762b8e3c2d0c77fec4da6a618c17446628486fd5cbc6aa4105320aeb','here','2026-11-21 13:14:13.623292',1,'2026-11-21 13:14:14.612106','2026-11-21 13:14:14.620058',NULL);
INSERT INTO "study" VALUES('f7cnxxfb','Waiting','digits-mlp','{"name": "Waiting", "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2}, "sampler": "tpe", "pruner": "none", "objective": {"at": "last"}, "training": {"schedule": "cosine", "warmup_fraction": 0.05, "batch_size": null, "decay_1d": true}, "resources": {"cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null}, "seed": 0, "max_retries": 3}','{"workload": {"name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "parameters": 5000, "epoch_s": 0.1}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0}}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "constraints": [], "schedule": "any"}, "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "batch_size": 32}','queued',NULL,1,1,NULL,NULL,'0d55ef583565b8df682ccf9237c76d497cf2b7f717c295101e3351e17fa8763d',NULL,NULL,0,'2026-11-21 13:14:14.624468',NULL,NULL);
CREATE TABLE tangent_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tangent_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tangent_version" VALUES('0001');
CREATE TABLE token (
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	created_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	last_used_at DATETIME, 
	CONSTRAINT pk_token PRIMARY KEY (name), 
	CONSTRAINT uq_token_digest UNIQUE (digest)
);
INSERT INTO "token" VALUES('ada','59deb4d3c282d57e1783ab2fb250402bb2c8251ba9368bf4e2b74365aa8f5509','admin','2026-11-21 13:14:14.545967',NULL,NULL);
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
	ended_at DATETIME, 
	CONSTRAINT pk_trial PRIMARY KEY (id), 
	CONSTRAINT fk_trial_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "trial" VALUES('3k7ndvbt.adamp.0','3k7ndvbt','adamp',0,'completed','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.8,2,0.79,2,1.0,NULL,'host:1',0,'2026-11-21 13:14:14.580420','2026-11-21 13:14:14.582094','2026-11-21 13:14:14.592029');
INSERT INTO "trial" VALUES('3k7ndvbt.adamp.1','3k7ndvbt','adamp',1,'completed','sampled','{"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.9,2,0.89,2,1.0,NULL,'host:1',0,'2026-11-21 13:14:14.580420','2026-11-21 13:14:14.587014','2026-11-21 13:14:14.599039');
INSERT INTO "trial" VALUES('3k7ndvbt.adamp.2','3k7ndvbt','adamp',2,'diverged','sampled','{"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,1,0.5,'the loss became nan',NULL,0,'2026-11-21 13:14:14.580420','2026-11-21 13:14:14.587234','2026-11-21 13:14:14.600670');
INSERT INTO "trial" VALUES('z4jjj73b.adamp.0','z4jjj73b','adamp',0,'running','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,0,0.0,NULL,NULL,0,'2026-11-21 13:14:14.621343','2026-11-21 13:14:14.622658',NULL);
CREATE INDEX ix_study_created_at ON study (created_at);
CREATE INDEX ix_study_state ON study (state);
CREATE INDEX ix_study_workload ON study (workload);
CREATE UNIQUE INDEX ix_trial_study_id_arm_number ON trial (study_id, arm, number);
CREATE INDEX ix_trial_study_id_state ON trial (study_id, state);
COMMIT;
