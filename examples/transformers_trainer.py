"""Fine-tune with the Trainer of transformers: checkpoints, and the model at the end, are what was evaluated.

python transformers_trainer.py
"""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from relaxbench.optim import EntropySGD


class Deploy(TrainerCallback):
    """Evaluate and save the deployed weights; they stay in the model until training goes on."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def on_step_begin(self, args, state, control, **more):
        self.optimizer.train()

    def on_step_end(self, args, state, control, **more):
        if control.should_evaluate or control.should_save:
            self.optimizer.eval()

    def on_epoch_end(self, args, state, control, **more):
        self.optimizer.eval()


torch.manual_seed(0)
tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
model = BertForSequenceClassification(BertConfig(vocab_size=20, **tiny))  # random: nothing is downloaded
tokens = torch.randint(0, 20, (128, 6))
data = [{"input_ids": row, "labels": int(row[0] >= 10)} for row in tokens]

arguments = TrainingArguments(
    "trainer",
    num_train_epochs=4,
    per_device_train_batch_size=16,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    metric_for_best_model="eval_loss",
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
)
optimizer = EntropySGD(model.parameters(), total_steps=4 * 8, inner_steps=4)
constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # Trainer's own would be a second schedule
made = {"optimizers": (optimizer, constant), "callbacks": [Deploy(optimizer)]}
trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, **made)
trainer.train()
best = BertForSequenceClassification.from_pretrained(trainer.state.best_model_checkpoint)
again = Trainer(best, arguments, eval_dataset=data)
losses = [trainer.state.best_metric, trainer.evaluate()["eval_loss"], again.evaluate()["eval_loss"]]
print(f"EntropySGD: {trainer.state.global_step} steps,", *(f"{loss:.6f}" for loss in losses))
