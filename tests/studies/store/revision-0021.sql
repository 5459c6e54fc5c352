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
INSERT INTO "arm" VALUES('t7x26sgw',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('zcz47pb2',0,'adamp','adamp',3);
INSERT INTO "arm" VALUES('vdwd6p8c',0,'adamp','adamp',3);
CREATE TABLE artifact (
	id VARCHAR(32) NOT NULL, 
	study_id VARCHAR(16) NOT NULL, 
	trial_id VARCHAR(96) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	weights_of VARCHAR(16), 
	name VARCHAR(255) NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 VARCHAR(64), 
	url TEXT, 
	reason TEXT, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT fk_artifact_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE, 
	CONSTRAINT fk_artifact_trial_id FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE
);
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
INSERT INTO "audit" VALUES(1,'2026-12-01 11:48:26.690383',NULL,'token.create',NULL,'ada',NULL);
INSERT INTO "audit" VALUES(2,'2026-12-01 11:48:26.692066','ada','login',NULL,NULL,'127.0.0.1');
INSERT INTO "audit" VALUES(3,'2026-12-01 11:48:26.696058','ada','webhook.create',NULL,'62dxsqjv',NULL);
INSERT INTO "audit" VALUES(4,'2026-12-01 11:48:26.700524','ada','webhook.test',NULL,'62dxsqjv',NULL);
INSERT INTO "audit" VALUES(5,'2026-12-01 11:48:26.706989','ada','webhook.test',NULL,'62dxsqjv',NULL);
INSERT INTO "audit" VALUES(6,'2026-12-01 11:48:26.713447',NULL,'submit','t7x26sgw',NULL,NULL);
INSERT INTO "audit" VALUES(7,'2026-12-01 11:48:26.775779','ada','note','t7x26sgw',NULL,NULL);
INSERT INTO "audit" VALUES(8,'2026-12-01 11:48:26.780590',NULL,'submit','zcz47pb2',NULL,NULL);
INSERT INTO "audit" VALUES(9,'2026-12-01 11:48:26.796829',NULL,'submit','vdwd6p8c',NULL,NULL);
CREATE TABLE deletion (
	study_id VARCHAR(16) NOT NULL, 
	owner VARCHAR(64), 
	gpu_s FLOAT NOT NULL, 
	epochs INTEGER NOT NULL, 
	retries INTEGER NOT NULL, 
	deleted_at DATETIME NOT NULL, 
	CONSTRAINT pk_deletion PRIMARY KEY (study_id)
);
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
INSERT INTO "delivery" VALUES('msg_491cba67073594db0ca0da43d77e798a','62dxsqjv',NULL,'webhook.ping','{"type":"webhook.ping","timestamp":"2026-12-01T11:48:26.699931Z","data":{"webhook_id":"62dxsqjv"}}','delivered',1,204,NULL,'2026-12-01 11:48:26.699972',NULL,'2026-12-01 11:48:26.705266');
INSERT INTO "delivery" VALUES('msg_62e24eb106b6f469222b2d00bb97e412','62dxsqjv',NULL,'webhook.ping','{"type":"webhook.ping","timestamp":"2026-12-01T11:48:26.706667Z","data":{"webhook_id":"62dxsqjv"}}','pending',0,NULL,NULL,'2026-12-01 11:48:26.706695','2026-12-01 11:48:26.706695',NULL);
CREATE TABLE event (
	study_id VARCHAR(16) NOT NULL, 
	number INTEGER NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	at DATETIME NOT NULL, 
	data JSON NOT NULL, 
	CONSTRAINT pk_event PRIMARY KEY (study_id, number), 
	CONSTRAINT fk_event_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "event" VALUES('t7x26sgw',1,'study.submitted','2026-12-01 11:48:26.711815','{"name": "Finished", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('t7x26sgw',2,'study.state','2026-12-01 11:48:26.722013','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',3,'trial.started','2026-12-01 11:48:26.730313','{"trial": "t7x26sgw.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('t7x26sgw',4,'trial.started','2026-12-01 11:48:26.730313','{"trial": "t7x26sgw.adamp.1", "arm": "adamp", "phase": "search", "number": 1, "attempt": 1, "parameters": {"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('t7x26sgw',5,'trial.started','2026-12-01 11:48:26.730313','{"trial": "t7x26sgw.adamp.2", "arm": "adamp", "phase": "search", "number": 2, "attempt": 1, "parameters": {"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('t7x26sgw',6,'trial.finished','2026-12-01 11:48:26.737399','{"trial": "t7x26sgw.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "state": "completed", "value": 0.8, "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',7,'trial.finished','2026-12-01 11:48:26.740328','{"trial": "t7x26sgw.adamp.1", "arm": "adamp", "phase": "search", "number": 1, "state": "completed", "value": 0.9, "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',8,'trial.finished','2026-12-01 11:48:26.742205','{"trial": "t7x26sgw.adamp.2", "arm": "adamp", "phase": "search", "number": 2, "state": "diverged", "value": null, "reason": "the loss became nan"}');
INSERT INTO "event" VALUES('t7x26sgw',9,'trial.started','2026-12-01 11:48:26.756624','{"trial": "t7x26sgw.adamp.c0", "arm": "adamp", "phase": "confirmation", "number": 0, "attempt": 1, "parameters": {"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('t7x26sgw',10,'trial.finished','2026-12-01 11:48:26.761321','{"trial": "t7x26sgw.adamp.c0", "arm": "adamp", "phase": "confirmation", "number": 0, "state": "completed", "value": 0.85, "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',11,'trial.started','2026-12-01 11:48:26.762512','{"trial": "t7x26sgw.adamp.c1", "arm": "adamp", "phase": "confirmation", "number": 1, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('t7x26sgw',12,'trial.finished','2026-12-01 11:48:26.765732','{"trial": "t7x26sgw.adamp.c1", "arm": "adamp", "phase": "confirmation", "number": 1, "state": "completed", "value": 0.85, "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',13,'progress','2026-12-01 11:48:26.770454','{"study": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0, "epochs_done": 5, "epochs": 6, "confirmations": 2, "confirmations_finished": 2, "confirmations_running": 0}, "arms": {"adamp": {"trials": 3, "finished": 3, "completed": 2, "diverged": 1, "pruned": 0, "failed": 0, "cancelled": 0, "running": 0, "waiting": 0, "epochs_done": 5, "epochs": 6, "confirmations": 2, "confirmations_finished": 2, "confirmations_running": 0, "best": 0.9}}}');
INSERT INTO "event" VALUES('t7x26sgw',14,'study.state','2026-12-01 11:48:26.771220','{"from": "running", "to": "completed", "reason": null}');
INSERT INTO "event" VALUES('t7x26sgw',15,'study.noted','2026-12-01 11:48:26.774908','{"version": 1, "by": "ada", "characters": 17}');
INSERT INTO "event" VALUES('zcz47pb2',1,'study.submitted','2026-12-01 11:48:26.779754','{"name": "Running", "arms": ["adamp"]}');
INSERT INTO "event" VALUES('zcz47pb2',2,'study.state','2026-12-01 11:48:26.784799','{"from": "queued", "to": "running", "reason": null}');
INSERT INTO "event" VALUES('zcz47pb2',3,'trial.started','2026-12-01 11:48:26.791743','{"trial": "zcz47pb2.adamp.0", "arm": "adamp", "phase": "search", "number": 0, "attempt": 1, "parameters": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}}');
INSERT INTO "event" VALUES('vdwd6p8c',1,'study.submitted','2026-12-01 11:48:26.795959','{"name": "Waiting", "arms": ["adamp"]}');
CREATE TABLE fit (
	workload VARCHAR(64) NOT NULL, 
	optimizer VARCHAR(64) NOT NULL, 
	batch_size INTEGER NOT NULL, 
	device VARCHAR(128) NOT NULL, 
	card JSON NOT NULL, 
	measured_at DATETIME NOT NULL, 
	CONSTRAINT pk_fit PRIMARY KEY (workload, optimizer, batch_size, device)
);
INSERT INTO "fit" VALUES('digits-mlp','adamp',32,'cpu','{"width": 8, "reason": null, "bytes_per_member": null, "trial_steps_per_s": {}}','2026-12-01 11:48:26.792280');
CREATE TABLE layer_measurement (
	trial_id VARCHAR(96) NOT NULL, 
	epoch INTEGER NOT NULL, 
	measured JSON NOT NULL, 
	CONSTRAINT pk_layer_measurement PRIMARY KEY (trial_id, epoch), 
	CONSTRAINT fk_layer_measurement_trial_id_trial FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE
);
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
	gradient_cosine FLOAT, metrics JSON, 
	CONSTRAINT pk_measurement PRIMARY KEY (trial_id, epoch), 
	CONSTRAINT fk_measurement_trial_id FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE
);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.0',1,0.5,NULL,NULL,NULL,0.4,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.0',2,1.0,NULL,NULL,NULL,0.8,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.1',1,0.5,NULL,NULL,NULL,0.45,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.1',2,1.0,NULL,NULL,NULL,0.9,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.2',1,0.5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.c0',1,0.5,NULL,NULL,NULL,0.425,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.c0',2,1.0,NULL,NULL,NULL,0.85,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.c1',1,0.5,NULL,NULL,NULL,0.425,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES('t7x26sgw.adamp.c1',2,1.0,NULL,NULL,NULL,0.85,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE notes (
	study_id VARCHAR(16) NOT NULL, 
	version INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	author VARCHAR(64), 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_notes PRIMARY KEY (study_id, version), 
	CONSTRAINT fk_notes_study_id_study FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "notes" VALUES('t7x26sgw',1,'Why *this* study.','ada','2026-12-01 11:48:26.773774');
CREATE TABLE offer (
	kind VARCHAR(16) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	card JSON NOT NULL, 
	dispatcher VARCHAR(128) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_offer PRIMARY KEY (kind, name)
);
INSERT INTO "offer" VALUES('optimizer','adamp','{"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null, "follows": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0, "among": []}, "follows": null}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null, "follows": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "findings": [], "constraints": [], "schedule": "any", "needs": "gradients", "per_group": ["lr", "weight_decay"], "package": null}','old','2026-12-01 11:48:26.684111');
INSERT INTO "offer" VALUES('workload','digits-mlp','{"kind": "tensors", "name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "metrics": [], "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "takes_label_smoothing": null, "chance": null, "parameters": 5000, "hyperparameters": [], "refuses": [], "groups": [], "epoch_s": 0.1, "published": [], "missing": "", "package": null}','old','2026-12-01 11:48:26.686740');
INSERT INTO "offer" VALUES('dispatcher','old','{}','old','2026-12-01 11:48:26.687707');
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
INSERT INTO "session" VALUES('95ffd74226fe9a8e3a1b91b4255e94d41c81fd3a7d4b1534190f496a34a59510','ada','2026-12-01 11:48:26.692268','2126-11-07 11:48:26.692268');
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
	ended_at DATETIME, environment JSON, suite VARCHAR(64), queued_at DATETIME, turn_at DATETIME, priority INTEGER DEFAULT '1' NOT NULL, machines VARCHAR(128), packs_wanted INTEGER, card_differences JSON, check_results JSON, archived_at DATETIME, scale_invariance JSON, notes_version INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_study PRIMARY KEY (id), 
	CONSTRAINT uq_study_idempotency_key UNIQUE (idempotency_key)
);
INSERT INTO "study" VALUES('t7x26sgw','Finished','digits-mlp','{"name": "Finished", "suite": "small", "tags": [], "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "steps": null, "evaluate_every": null, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "search": {"paired": 0, "replicates": 1, "verdict_at": null, "until": null, "stopped_at": []}, "objective": {"metric": null, "compare": [], "at": "last"}, "confirmation": {"seeds": 1, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "clip_norm": 0.0, "clip_value": 0.0, "accumulation_steps": 1, "ema_decay": 0.0, "ema_evaluation": "instead", "label_smoothing": 0.0, "precision": "float32", "batch_size": null}, "space": {}, "keep": {"weights": "none", "max_weights_mb": 4096.0, "files": false, "max_files_mb": 64.0, "days": null}, "resources": {"processes_per_trial": 1, "cpus_per_process": null, "gpus_per_process": null, "shard_optimizer": false, "cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "check_workload": true, "max_retries": 3}','{"workload": {"kind": "tensors", "name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "metrics": [], "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "takes_label_smoothing": null, "chance": null, "parameters": 5000, "hyperparameters": [], "refuses": [], "groups": [], "epoch_s": 0.1, "published": [], "missing": "", "package": null}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null, "follows": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0, "among": []}, "follows": null}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null, "follows": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "findings": [], "constraints": [], "schedule": "any", "needs": "gradients", "per_group": ["lr", "weight_decay"], "package": null}, "further_hyperparameters": [], "overrides": [], "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "interval_steps": null, "batch_size": 32, "adds_pairs": true}','completed',NULL,3,15,NULL,NULL,'a8c4519d283e5096227d115a8c439d6c930b58f6264be4eb7d461a80c379f512',NULL,NULL,1,'2026-12-01 11:48:26.709761','2026-12-01 11:48:26.721387','2026-12-01 11:48:26.770563','{"python": "3.11.9"}','small',NULL,'2026-12-01 11:48:26.720679',1,NULL,NULL,NULL,NULL,NULL,NULL,1);
INSERT INTO "study" VALUES('zcz47pb2','Running','digits-mlp','{"name": "Running", "suite": null, "tags": [], "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "steps": null, "evaluate_every": null, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "search": {"paired": 0, "replicates": 1, "verdict_at": null, "until": null, "stopped_at": []}, "objective": {"metric": null, "compare": [], "at": "last"}, "confirmation": {"seeds": 0, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "clip_norm": 0.0, "clip_value": 0.0, "accumulation_steps": 1, "ema_decay": 0.0, "ema_evaluation": "instead", "label_smoothing": 0.0, "precision": "float32", "batch_size": null}, "space": {}, "keep": {"weights": "none", "max_weights_mb": 4096.0, "files": false, "max_files_mb": 64.0, "days": null}, "resources": {"processes_per_trial": 1, "cpus_per_process": null, "gpus_per_process": null, "shard_optimizer": false, "cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "check_workload": true, "max_retries": 3}','{"workload": {"kind": "tensors", "name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "metrics": [], "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "takes_label_smoothing": null, "chance": null, "parameters": 5000, "hyperparameters": [], "refuses": [], "groups": [], "epoch_s": 0.1, "published": [], "missing": "", "package": null}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null, "follows": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0, "among": []}, "follows": null}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null, "follows": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "findings": [], "constraints": [], "schedule": "any", "needs": "gradients", "per_group": ["lr", "weight_decay"], "package": null}, "further_hyperparameters": [], "overrides": [], "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "interval_steps": null, "batch_size": 32, "adds_pairs": true}','running',NULL,2,3,NULL,NULL,'444832474461a13d2f7db84d09f9680c73f46a7c1d5926f1b1c6e6b08db88113','here','2026-12-01 11:48:25.793462',1,'2026-12-01 11:48:26.778637','2026-12-01 11:48:26.784471',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.784226',1,NULL,NULL,NULL,NULL,NULL,NULL,0);
INSERT INTO "study" VALUES('vdwd6p8c','Waiting','digits-mlp','{"name": "Waiting", "suite": null, "tags": [], "workload": "digits-mlp", "arms": [{"optimizer": "adamp", "name": "adamp", "space": {}}], "budget": {"trials_per_arm": 3, "epochs": 2, "steps": null, "evaluate_every": null, "replicates": 1}, "sampler": "tpe", "pruner": {"kind": "none"}, "search": {"paired": 0, "replicates": 1, "verdict_at": null, "until": null, "stopped_at": []}, "objective": {"metric": null, "compare": [], "at": "last"}, "confirmation": {"seeds": 0, "solo": false}, "training": {"schedule": "cosine", "warmup_fraction": null, "step_drops": 2, "step_factor": 0.1, "decay_fraction": 0.2, "cycles": 3, "cycle_growth": 2.0, "decay_1d": true, "clip_norm": 0.0, "clip_value": 0.0, "accumulation_steps": 1, "ema_decay": 0.0, "ema_evaluation": "instead", "label_smoothing": 0.0, "precision": "float32", "batch_size": null}, "space": {}, "keep": {"weights": "none", "max_weights_mb": 4096.0, "files": false, "max_files_mb": 64.0, "days": null}, "resources": {"processes_per_trial": 1, "cpus_per_process": null, "gpus_per_process": null, "shard_optimizer": false, "cpus_per_pack": 1.0, "gpus_per_pack": 0.0, "max_concurrent_packs": null, "max_pack_size": null, "epoch_timeout_s": null, "priority": "normal"}, "seed": 0, "check_workload": true, "max_retries": 3}','{"workload": {"kind": "tensors", "name": "digits-mlp", "title": "digits mlp", "description": "A small network on a small set.", "source": "made up", "metric": "accuracy", "unit": "fraction", "direction": "maximize", "target": 0.95, "metrics": [], "epochs": 4, "batch_size": 32, "examples": {"train": 1000, "validation": 300, "test": 300}, "takes_label_smoothing": null, "chance": null, "parameters": 5000, "hyperparameters": [], "refuses": [], "groups": [], "epoch_s": 0.1, "published": [], "missing": "", "package": null}, "arms": [{"name": "adamp", "card": {"name": "adamp", "title": "AdamP", "description": "AdamP, as its paper has it.", "reference": "made up", "import_line": "from optimizers import AdamP", "constructor": "AdamP", "arguments": {}, "hyperparameters": [{"name": "lr", "description": "What lr does.", "unit": "none", "default": 0.001, "search": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": true, "high_open": false}, "active_when": null, "follows": null}, {"name": "beta1", "description": "What beta1 does.", "unit": "none", "default": 0.9, "search": {"kind": "range", "low": 0.8, "high": 0.99, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "beta2", "description": "What beta2 does.", "unit": "none", "default": 0.999, "search": {"kind": "range", "low": 0.9, "high": 0.9999, "log": false, "integer": false}, "source": "made up", "tuned": false, "bounds": {"low": 0.0, "high": 1.0, "low_open": false, "high_open": true}, "active_when": null, "follows": null}, {"name": "weight_decay", "description": "What weight_decay does.", "unit": "none", "default": 0.0, "search": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "delta", "description": "What delta does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": null, "follows": null}, {"name": "wd_ratio", "description": "What wd_ratio does.", "unit": "none", "default": 0.1, "search": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "source": "made up", "tuned": true, "bounds": {"low": 0.0, "high": null, "low_open": false, "high_open": false}, "active_when": {"parameter": "weight_decay", "above": 0.0, "among": []}, "follows": null}, {"name": "nesterov", "description": "What nesterov does.", "unit": "none", "default": false, "search": {"kind": "choices", "choices": [false, true]}, "source": "made up", "tuned": false, "bounds": null, "active_when": null, "follows": null}], "pairs": {"betas": ["beta1", "beta2"]}, "preparation": "", "call": "", "accepts": null, "contains": [{"optimizer": "adamw", "at": {"delta": 0.0}, "requires": {}, "note": ""}], "findings": [], "constraints": [], "schedule": "any", "needs": "gradients", "per_group": ["lr", "weight_decay"], "package": null}, "further_hyperparameters": [], "overrides": [], "space": {"lr": {"kind": "range", "low": 1e-05, "high": 0.1, "log": true, "integer": false}, "beta1": {"kind": "fixed", "value": 0.9}, "beta2": {"kind": "fixed", "value": 0.999}, "weight_decay": {"kind": "range", "low": 0.0001, "high": 1.0, "log": true, "integer": false}, "delta": {"kind": "range", "low": 0.001, "high": 1.0, "log": true, "integer": false}, "wd_ratio": {"kind": "range", "low": 0.01, "high": 1.0, "log": true, "integer": false}, "nesterov": {"kind": "fixed", "value": false}}, "defaults": {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}, "trials": 3}], "epochs": 2, "interval_steps": null, "batch_size": 32, "adds_pairs": true}','queued',NULL,1,1,NULL,NULL,'cb47cd0290ae6683d6bafb05b700fed5f2dca51cd8a748a1bdfa28a988fe57c0',NULL,NULL,0,'2026-12-01 11:48:26.795109',NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,0);
CREATE TABLE tangent_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT tangent_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "tangent_version" VALUES('0021');
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
INSERT INTO "token" VALUES('ada','21d6c9749452a47ba6ffa142a99bac2b8076491bea6becaf6eaf0ab2523f0f27','admin','2026-12-01 11:48:26.689602',NULL,NULL,9,NULL,NULL);
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
	ended_at DATETIME, to_epoch INTEGER DEFAULT '0' NOT NULL, bracket INTEGER DEFAULT '0' NOT NULL, checkpoint TEXT, checkpoint_epoch INTEGER, pack_size INTEGER, phase VARCHAR(16) DEFAULT 'search' NOT NULL, confirms INTEGER, charged_s FLOAT DEFAULT '0' NOT NULL, traceback TEXT, test_metrics JSON, heard_at DATETIME, step INTEGER, memory_bytes BIGINT, device_memory_bytes BIGINT, pair_index INTEGER, pack_started_at DATETIME, pack_epochs INTEGER, 
	CONSTRAINT pk_trial PRIMARY KEY (id), 
	CONSTRAINT fk_trial_study_id FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
);
INSERT INTO "trial" VALUES('t7x26sgw.adamp.0','t7x26sgw','adamp',0,'completed','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.8,2,0.79,2,1.0,NULL,'host:1',0,'2026-12-01 11:48:26.726204','2026-12-01 11:48:26.729226','2026-12-01 11:48:26.735470',2,0,NULL,NULL,NULL,'search',NULL,1.0,NULL,NULL,'2026-12-01 11:48:26.735470',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.729226',0);
INSERT INTO "trial" VALUES('t7x26sgw.adamp.1','t7x26sgw','adamp',1,'completed','sampled','{"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,0.9,2,0.89,2,1.0,NULL,'host:1',0,'2026-12-01 11:48:26.726204','2026-12-01 11:48:26.729226','2026-12-01 11:48:26.739296',2,0,NULL,NULL,NULL,'search',NULL,1.0,NULL,NULL,'2026-12-01 11:48:26.739296',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.729226',0);
INSERT INTO "trial" VALUES('t7x26sgw.adamp.2','t7x26sgw','adamp',2,'diverged','sampled','{"lr": 0.003, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,1,0.5,'the loss became nan',NULL,0,'2026-12-01 11:48:26.726204','2026-12-01 11:48:26.729226','2026-12-01 11:48:26.741139',2,0,NULL,NULL,NULL,'search',NULL,0.0,NULL,NULL,'2026-12-01 11:48:26.741139',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.729226',0);
INSERT INTO "trial" VALUES('t7x26sgw.adamp.c0','t7x26sgw','adamp',0,'completed','sampled','{"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,6899439178317581,1,0,0.85,2,0.84,2,1.0,NULL,'host:1',0,'2026-12-01 11:48:26.754299','2026-12-01 11:48:26.755394','2026-12-01 11:48:26.759739',2,0,NULL,NULL,NULL,'confirmation',1,1.0,NULL,NULL,'2026-12-01 11:48:26.759739',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.755394',0);
INSERT INTO "trial" VALUES('t7x26sgw.adamp.c1','t7x26sgw','adamp',1,'completed','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,6899439178317581,1,0,0.85,2,0.84,2,1.0,NULL,'host:1',0,'2026-12-01 11:48:26.754299','2026-12-01 11:48:26.761862','2026-12-01 11:48:26.764321',2,0,NULL,NULL,NULL,'confirmation',0,1.0,NULL,NULL,'2026-12-01 11:48:26.764321',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.761862',0);
INSERT INTO "trial" VALUES('zcz47pb2.adamp.0','zcz47pb2','adamp',0,'running','default','{"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "delta": 0.1, "wd_ratio": 0.1, "nesterov": false}',0,7,1,0,NULL,NULL,NULL,0,0.0,NULL,NULL,0,'2026-12-01 11:48:26.789540','2026-12-01 11:48:26.791069',NULL,2,0,NULL,NULL,NULL,'search',NULL,0.0,NULL,NULL,'2026-12-01 11:48:26.791069',NULL,NULL,NULL,NULL,'2026-12-01 11:48:26.791069',0);
CREATE TABLE trial_layers (
	trial_id VARCHAR(96) NOT NULL, 
	names JSON NOT NULL, 
	initial_norms JSON NOT NULL, 
	CONSTRAINT pk_trial_layers PRIMARY KEY (trial_id), 
	CONSTRAINT fk_trial_layers_trial_id_trial FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE
);
CREATE TABLE trial_output (
	trial_id VARCHAR(96) NOT NULL, 
	pack_id VARCHAR(32) NOT NULL, 
	attempt INTEGER NOT NULL, 
	CONSTRAINT pk_trial_output PRIMARY KEY (trial_id), 
	CONSTRAINT fk_trial_output_trial_id FOREIGN KEY(trial_id) REFERENCES trial (id) ON DELETE CASCADE, 
	CONSTRAINT fk_trial_output_pack_id FOREIGN KEY(pack_id) REFERENCES pack_output (pack_id) ON DELETE CASCADE
);
CREATE TABLE verdict_phrase (
	study_id VARCHAR(16) NOT NULL, 
	text TEXT NOT NULL, 
	changes INTEGER NOT NULL, 
	program VARCHAR(128) NOT NULL, 
	CONSTRAINT pk_verdict_phrase PRIMARY KEY (study_id), 
	CONSTRAINT fk_verdict_phrase_study_id_study FOREIGN KEY(study_id) REFERENCES study (id) ON DELETE CASCADE
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
INSERT INTO "webhook" VALUES('62dxsqjv','ada','https://hooks.example/tangent','whsec_IYTRNsHAlBXwu3qqK795KR/SvFvPj+qRlQUkP+zkYcE=','["study.failed"]','all',NULL,'2026-12-01 11:48:26.695510','2026-12-01 11:48:26.705266',NULL,NULL,NULL);
CREATE TABLE workload_check (
	workload VARCHAR(64) NOT NULL, 
	package VARCHAR(255) NOT NULL, 
	batch_size INTEGER NOT NULL, 
	device VARCHAR(128) NOT NULL, 
	optimizer VARCHAR(64) NOT NULL, 
	budget VARCHAR(16) NOT NULL, 
	results JSON NOT NULL, 
	checked_at DATETIME NOT NULL, 
	CONSTRAINT pk_workload_check PRIMARY KEY (workload, package, batch_size, device, optimizer, budget)
);
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
CREATE INDEX ix_artifact_study_id ON artifact (study_id);
CREATE INDEX ix_artifact_trial_id ON artifact (trial_id);
CREATE INDEX ix_deletion_owner ON deletion (owner);
CREATE INDEX ix_deletion_deleted_at ON deletion (deleted_at);
COMMIT;
